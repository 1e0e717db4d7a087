-- The instance that wrote the draft, or took it up: while that one lives, no other begins with it.
ALTER TABLE chat ADD COLUMN drafter TEXT;
