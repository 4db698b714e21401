-- domicile:phase expand
-- domicile:level 4
-- What makes the region log a proof: the root of every full Merkle tile, and the signed checkpoints.

-- Hashes do not compress, and a reader of roots has no use for them.
ALTER TABLE domicile.tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
-- The root over a full tile's 256 hashes: what stands for it in the tile above.
ALTER TABLE domicile.tiles ADD COLUMN root bytea CHECK (octet_length(root) = 32);

-- Signed checkpoints (C2SP tlog-checkpoint) as the signer published them, without cosignatures. Only one
-- key signs one origin, so one size has one checkpoint; two of them would be the proof of a split view.
CREATE TABLE domicile.checkpoints (
    size      bigint      NOT NULL PRIMARY KEY CHECK (size >= 0),
    root      bytea       NOT NULL CHECK (octet_length(root) = 32),
    note      text        NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT now()
);

-- What witnesses put under a checkpoint: one signature line each (C2SP tlog-cosignature).
CREATE TABLE domicile.cosignatures (
    size      bigint      NOT NULL REFERENCES domicile.checkpoints ON DELETE CASCADE,
    witness   text        NOT NULL,
    line      text        NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (size, witness)
);

-- A checkpoint is worth what others keep of it; here old ones are thinned out.
GRANT SELECT, INSERT, DELETE ON domicile.checkpoints, domicile.cosignatures TO domicile_gateway;
