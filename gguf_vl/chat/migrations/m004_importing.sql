-- The instance that is importing the chat, which counts as deleted until all that come with it are here.
ALTER TABLE chat ADD COLUMN importer TEXT;
CREATE INDEX chat_importing ON chat (importer) WHERE importer IS NOT NULL;
