-- Texts of files, folded for the search, apart from the contents: so a search need not read those.

CREATE TABLE history_file_words (
    person       text COLLATE "C" NOT NULL,
    file         text COLLATE "C" NOT NULL,
    conversation text COLLATE "C" NOT NULL,
    words        text COLLATE "C" NOT NULL,   -- '' of a file that is no text
    PRIMARY KEY (person, file)
);
CREATE INDEX history_file_words_conversation ON history_file_words (person, conversation);
