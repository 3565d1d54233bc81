-- What left the store room, and when.
CREATE TABLE movement (
    item text NOT NULL,
    count integer NOT NULL,
    moved_at timestamp NOT NULL
);
