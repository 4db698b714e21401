-- domicile:phase expand
-- domicile:level 9
-- What the deployer keeps in this database: how far its schema is, and who is deploying.

-- How far the schema of a set is, and how old a program may be that still uses it. A program embeds the level
-- of its newest file and serves as long as the floor is not above that. Files that only add leave the floor alone.
CREATE TABLE IF NOT EXISTS domicile.schema_level (
    migrations text   NOT NULL PRIMARY KEY CHECK (migrations IN ('directory', 'region')),
    level      bigint NOT NULL CHECK (level >= 0),
    floor      bigint NOT NULL CHECK (floor >= 0),
    CHECK (floor <= level)
);
INSERT INTO domicile.schema_level (migrations, level, floor) VALUES ('region', 0, 0) ON CONFLICT DO NOTHING;
-- Whoever may connect at all asks it before anything else.
GRANT SELECT ON domicile.schema_level TO PUBLIC;

-- Who deploys, backs up or restores here, for how long yet. `token` grows with every new holder, so that one who
-- was away too long cannot go on as if nothing had happened.
CREATE SCHEMA IF NOT EXISTS domicile_ops;
CREATE TABLE IF NOT EXISTS domicile_ops.lease (
    name       text        NOT NULL PRIMARY KEY,
    holder     text        NOT NULL,
    token      bigint      NOT NULL CHECK (token > 0),
    expires_at timestamptz NOT NULL
);
