-- domicile:phase expand
-- domicile:level 5
-- A directory that was restored from a backup and is not open yet names the backup here. Meanwhile its schema's floor is
-- above every level, so that gateways of any release refuse it: who came and who was erased since the backup was taken
-- has to be learnt from the regions first.
CREATE TABLE domicile.restoring (
    backup text   NOT NULL,
    -- What the floor was.
    floor  bigint NOT NULL CHECK (floor >= 0),
    one    bool   NOT NULL DEFAULT true PRIMARY KEY CHECK (one)
);
-- The regions that were heard.
CREATE TABLE domicile.restoring_heard (
    region text NOT NULL PRIMARY KEY
);
