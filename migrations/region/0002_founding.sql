-- domicile:phase expand
-- domicile:level 2
-- The functions that make partitions: founding a region, and giving its log room ahead of need.

-- Makes sure that the log has room up to and beyond its present end, and says up to which seq. Log
-- partitions hold 2^24 seqs each, so that they end where Merkle tiles end and can go as a whole.
-- A partition is attached rather than created in place, so that readers and writers need not wait.
CREATE FUNCTION domicile.extend_log() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step   constant bigint := 16777216;
    first  bigint;
    base   bigint;
    parent text;
    part   text;
BEGIN
    SELECT h.size / step INTO first FROM domicile.head AS h;
    IF first IS NULL THEN
        RAISE EXCEPTION 'no region has been founded in this database' USING ERRCODE = '55000';
    END IF;
    -- This one and the next: whoever asks at least once in 2^24 seqs never runs out.
    FOR i IN first .. first + 1 LOOP
        base := i * step;
        FOREACH parent IN ARRAY ARRAY['leaves', 'outbox'] LOOP
            part := parent || '_' || lpad(i::text, 6, '0');
            IF to_regclass(format('domicile.%I', part)) IS NULL THEN
                PERFORM pg_advisory_xact_lock(hashtextextended('domicile.extend_log', 0));
                -- From the catalog itself: to_regclass may still remember that there was none before the lock.
                IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c
                               WHERE c.relnamespace = 'domicile'::regnamespace AND c.relname = part) THEN
                    EXECUTE format('CREATE TABLE domicile.%I (LIKE domicile.%I INCLUDING ALL)', part, parent);
                    EXECUTE format('ALTER TABLE domicile.%I ATTACH PARTITION domicile.%I FOR VALUES FROM (%s) TO (%s)',
                                   parent, part, base, base + step);
                END IF;
            END IF;
        END LOOP;
    END LOOP;
    RETURN (first + 2) * step;
END
$$;
REVOKE ALL ON FUNCTION domicile.extend_log() FROM PUBLIC;

-- Founds a region here. The same again changes nothing; another name, jurisdiction or origin is refused,
-- and so is a database that was copied to another cluster.
CREATE FUNCTION domicile.found(region text, jurisdiction text, origin text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    here   bigint := (SELECT c.system_identifier FROM pg_control_system() AS c);
    known  domicile.region_identity%ROWTYPE;
    parent text;
    part   text;
BEGIN
    -- Names and texts come from all over the world.
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'a region needs a database in UTF8, and this one is in %', current_setting('server_encoding')
            USING ERRCODE = '55000';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('domicile.found', 0));
    SELECT i.* INTO known FROM domicile.region_identity AS i;
    IF FOUND THEN
        IF (known.region, known.jurisdiction, known.origin) IS DISTINCT FROM (found.region, found.jurisdiction, found.origin) THEN
            RAISE EXCEPTION 'this database is already founded as region % (%), log %',
                known.region, known.jurisdiction, known.origin USING ERRCODE = '55000';
        END IF;
        IF known.system_identifier <> here THEN
            RAISE EXCEPTION 'region % was founded on the cluster %, and this is the cluster %',
                known.region, known.system_identifier, here USING ERRCODE = '55000';
        END IF;
    ELSE
        INSERT INTO domicile.region_identity (region, jurisdiction, origin, system_identifier)
        VALUES (found.region, found.jurisdiction, found.origin, here);
        INSERT INTO domicile.head (size, frontier, epoch, fence) VALUES (0, '', 1, 1);
        FOREACH parent IN ARRAY ARRAY['records', 'zero_party'] LOOP
            part := parent || '_' || found.region;
            EXECUTE format('CREATE TABLE domicile.%I PARTITION OF domicile.%I FOR VALUES IN (%L) WITH (fillfactor = 85)',
                           part, parent, found.region);
        END LOOP;
    END IF;
    PERFORM domicile.extend_log();
END
$$;
REVOKE ALL ON FUNCTION domicile.found(text, text, text) FROM PUBLIC;
