-- domicile:phase expand
-- domicile:level 20
-- A subject's tag is made of its secret and of the log's name. A log that goes on under another name after a restore keeps
-- its older entries, and with them the tags that the name before made. So the names it had are remembered, and whoever
-- erases, counts or searches asks for the tag of each. And an erasure takes the details along by itself, whoever calls it.

CREATE TABLE domicile.former_origins (
    origin text   NOT NULL PRIMARY KEY,
    -- How many entries the log had when it took its next name: what is below was written under this name or an older one.
    size   bigint NOT NULL UNIQUE CHECK (size >= 0)
);
GRANT SELECT ON domicile.former_origins TO domicile_gateway;

-- Takes a subject's data away and keeps the tombstone, as before, but by all of its tags.
CREATE FUNCTION domicile.erase_subject(
    whose text, its_tags text[], its_digests bytea[], its_key_ids smallint[], its_events_digest bytea, its_epoch bigint,
    happened_at timestamptz, behind bigint,
    OUT records_gone bigint, OUT attributes_gone bigint, OUT history_gone bigint, OUT keys_gone bigint, OUT events_blanked bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    indexed bigint := (SELECT coalesce(max(c.seq), 0) FROM domicile.cursors AS c WHERE c.name = 'index');
    more    bigint;
BEGIN
    DELETE FROM domicile.records AS r WHERE r.subject = whose;
    GET DIAGNOSTICS records_gone = ROW_COUNT;
    DELETE FROM domicile.zero_party AS z WHERE z.subject = whose;
    GET DIAGNOSTICS attributes_gone = ROW_COUNT;
    DELETE FROM domicile.zero_party_history AS h WHERE h.digest = its_events_digest;
    GET DIAGNOSTICS history_gone = ROW_COUNT;
    DELETE FROM domicile.idempotency AS i WHERE i.subject = whose;
    GET DIAGNOSTICS keys_gone = ROW_COUNT;
    DELETE FROM domicile.details AS d WHERE d.subject = whose;
    -- The row holds the secret that made the subject's tags: without it the log speaks of nobody.
    DELETE FROM domicile.subjects AS s WHERE s.subject = whose;

    events_blanked := 0;
    IF behind = 0 THEN
        UPDATE domicile.outbox AS o
        SET data = '', extensions = NULL, traceparent = NULL, source = '/', event_id = 'erased-' || o.seq, erased = true
        FROM unnest(its_tags) AS t(tag) JOIN domicile.decision_index AS d ON d.subject_tag = t.tag
        WHERE d.seq <= indexed AND o.seq = d.seq AND o.key = its_events_digest AND NOT o.erased;
        GET DIAGNOSTICS events_blanked = ROW_COUNT;
    END IF;
    UPDATE domicile.outbox AS o
    SET data = '', extensions = NULL, traceparent = NULL, source = '/', event_id = 'erased-' || o.seq, erased = true
    WHERE o.seq > greatest(CASE WHEN behind = 0 THEN indexed END, behind) AND o.key = its_events_digest AND NOT o.erased;
    GET DIAGNOSTICS more = ROW_COUNT;
    events_blanked := events_blanked + more;

    INSERT INTO domicile.erasures (digest, key_id, events_digest, epoch, erased_at)
    SELECT d.digest, d.key_id, its_events_digest, its_epoch, happened_at
    FROM unnest(its_digests, its_key_ids) AS d(digest, key_id)
    ON CONFLICT (digest) DO NOTHING;
END
$$;
REVOKE ALL ON FUNCTION domicile.erase_subject(text, text[], bytea[], smallint[], bytea, bigint, timestamptz, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    domicile.erase_subject(text, text[], bytea[], smallint[], bytea, bigint, timestamptz, bigint) TO domicile_gateway;

-- Releases before this one know one tag, that of the present name, and call this.
CREATE OR REPLACE FUNCTION domicile.erase_subject(
    whose text, its_tag text, its_digests bytea[], its_key_ids smallint[], its_events_digest bytea, its_epoch bigint,
    happened_at timestamptz, behind bigint,
    OUT records_gone bigint, OUT attributes_gone bigint, OUT history_gone bigint, OUT keys_gone bigint, OUT events_blanked bigint)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.records_gone, e.attributes_gone, e.history_gone, e.keys_gone, e.events_blanked
    FROM domicile.erase_subject(whose, ARRAY[its_tag], its_digests, its_key_ids, its_events_digest, its_epoch, happened_at, behind) AS e;
$$;
