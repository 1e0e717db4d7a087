/** What people often want of a picture, as questions to begin with. `select` is what they will want to change. */

export const TASKS = [
  {
    name: "Describe",
    icon: "eye",
    hint: "What there is to see",
    prompt: "Describe the picture.",
  },
  {
    name: "Read the text",
    icon: "text",
    hint: "Every line, as it stands there",
    prompt: "Read the text in the picture. Write it line by line, exactly as it stands, and nothing else.",
  },
  {
    name: "Find with boxes",
    icon: "frame",
    hint: "Where things are, drawn over the picture",
    prompt: 'Locate every object in the picture. Answer as JSON: [{"bbox_2d": [x1, y1, x2, y2], "label": "…"}].',
    select: "every object",
  },
  {
    name: "Receipt to JSON",
    icon: "receipt",
    hint: "Merchant, items and total as data",
    prompt:
      'Read this receipt. Answer as JSON alone: {"merchant", "date", "currency", "items": [{"name", "quantity", "price"}], "tax", "total"}. ' +
      "Use null for what is not on it, and numbers without a currency.",
  },
  {
    name: "Table",
    icon: "table",
    hint: "Rows and columns as a table",
    prompt: "Write the table in this picture as a Markdown table, with every row and column.",
  },
];
