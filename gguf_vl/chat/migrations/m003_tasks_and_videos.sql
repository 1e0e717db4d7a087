-- The task that a question began with, by its name; an answer has that of its question.
ALTER TABLE turn ADD COLUMN task TEXT;
-- How long a video is; NULL for a picture.
ALTER TABLE picture ADD COLUMN seconds REAL;
