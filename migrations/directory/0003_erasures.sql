-- domicile:phase expand
-- domicile:level 3
-- The tombstones of erased subjects: a digest, a region and a time. They outlive the region's database, so that a backup
-- which is older than an erasure can be told what to forget before it serves anybody.

ALTER TABLE domicile.pins ADD COLUMN erased_at timestamptz;

-- Erasures of a region, in the order in which they happened.
-- domicile:assured "no release was published before this file, so nobody has a long table yet"
CREATE INDEX pins_erased ON domicile.pins (region, erased_at, subject_digest) WHERE state = 'erased';

-- Erased is for ever: not even a gateway that was deceived can take it back.
CREATE FUNCTION domicile.keep_erased() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the subject of this pin was erased, and stays so' USING ERRCODE = '55000';
END
$$;

CREATE TRIGGER pins_keep_erased BEFORE UPDATE ON domicile.pins
    FOR EACH ROW WHEN (OLD.state = 'erased' AND (NEW.state, NEW.region) IS DISTINCT FROM (OLD.state, OLD.region))
    EXECUTE FUNCTION domicile.keep_erased();

GRANT UPDATE (erased_at) ON domicile.pins TO domicile_directory;
