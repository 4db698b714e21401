-- domicile:phase expand
-- domicile:level 3
-- What a gateway may do here, and no more: it cannot change or take back a leaf, an event or a tile, nor
-- make or detach a partition. Roles belong to the whole cluster, so another database may have made this one.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'domicile_gateway') THEN
        CREATE ROLE domicile_gateway NOLOGIN;
    END IF;
EXCEPTION
    -- Another database of the cluster made it in this very moment.
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

-- Whoever migrates can then also serve, with no more rights than a gateway has.
DO $$
BEGIN
    IF NOT pg_catalog.pg_has_role(current_user, 'domicile_gateway', 'MEMBER') THEN
        EXECUTE pg_catalog.format('GRANT domicile_gateway TO %I', current_user);
    END IF;
EXCEPTION
    WHEN insufficient_privilege OR unique_violation OR duplicate_object THEN NULL;
END
$$;

GRANT USAGE ON SCHEMA domicile TO domicile_gateway;
GRANT SELECT ON domicile.region_identity TO domicile_gateway;
GRANT SELECT, UPDATE (size, frontier, fence) ON domicile.head TO domicile_gateway;
GRANT SELECT, INSERT, UPDATE (state, epoch, version_floor) ON domicile.subjects TO domicile_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON domicile.records, domicile.zero_party TO domicile_gateway;
GRANT SELECT, INSERT ON domicile.outbox, domicile.leaves, domicile.tiles TO domicile_gateway;
GRANT SELECT, INSERT, UPDATE ON domicile.cursors TO domicile_gateway;
GRANT SELECT, INSERT, DELETE ON domicile.idempotency TO domicile_gateway;
GRANT SELECT, INSERT, DELETE ON domicile.decision_index TO domicile_gateway;
GRANT EXECUTE ON FUNCTION domicile.extend_log() TO domicile_gateway;
