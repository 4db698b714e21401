//! The tables `gateway_counts` and `gateway_gaps`.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::error::Trouble;
use crate::region::records::{column, version};

/// The most gaps that are kept in mind.
const GAPS_MAX: i64 = 10_000;

/// How far gateways have counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// The highest count of each boot of a gateway.
    pub last: BTreeMap<String, u64>,
    /// The counts below it that were not seen, by gateway and first count.
    pub gaps: BTreeMap<(String, u64), Gap>,
}

/// Counts that were not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last of them.
    pub last: u64,
    /// The entry behind them.
    pub seq: u64,
    /// And its time, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

pub(super) async fn read(connection: &mut PgConnection) -> Result<Counts, Trouble> {
    let mut counts = Counts::default();
    let rows = sqlx::query("SELECT gateway, last FROM domicile.gateway_counts").fetch_all(&mut *connection).await?;
    for row in rows {
        counts.last.insert(row.try_get(0)?, version(row.try_get(1)?)?);
    }
    let rows =
        sqlx::query("SELECT gateway, first, last, seq, at_us FROM domicile.gateway_gaps ORDER BY at_us DESC LIMIT $1")
            .bind(GAPS_MAX)
            .fetch_all(connection)
            .await?;
    for row in rows {
        let gap = Gap { last: version(row.try_get(2)?)?, seq: version(row.try_get(3)?)?, at_us: row.try_get(4)? };
        counts.gaps.insert((row.try_get(0)?, version(row.try_get(1)?)?), gap);
    }
    Ok(counts)
}

pub(super) async fn write(
    connection: &mut PgConnection,
    counts: &Counts,
    closed: &[(String, u64)],
) -> Result<(), Trouble> {
    if !counts.last.is_empty() {
        let (gateways, lasts): (Vec<&str>, Vec<i64>) =
            counts.last.iter().map(|(gateway, last)| (gateway.as_str(), column(*last))).unzip();
        sqlx::query(
            "INSERT INTO domicile.gateway_counts AS c (gateway, last) SELECT * FROM unnest($1::text[], $2::bigint[]) \
             ON CONFLICT (gateway) DO UPDATE SET last = greatest(c.last, excluded.last)",
        )
        .bind(gateways)
        .bind(lasts)
        .execute(&mut *connection)
        .await?;
    }
    if !closed.is_empty() {
        let (gateways, firsts): (Vec<&str>, Vec<i64>) =
            closed.iter().map(|(gateway, first)| (gateway.as_str(), column(*first))).unzip();
        sqlx::query(
            "DELETE FROM domicile.gateway_gaps AS g USING unnest($1::text[], $2::bigint[]) AS c (gateway, first) \
             WHERE g.gateway = c.gateway AND g.first = c.first",
        )
        .bind(gateways)
        .bind(firsts)
        .execute(&mut *connection)
        .await?;
    }
    if !counts.gaps.is_empty() {
        let gateways: Vec<&str> = counts.gaps.keys().map(|(gateway, _)| gateway.as_str()).collect();
        let firsts: Vec<i64> = counts.gaps.keys().map(|(_, first)| column(*first)).collect();
        let of = |number: &dyn Fn(&Gap) -> i64| counts.gaps.values().map(number).collect::<Vec<i64>>();
        sqlx::query(
            "INSERT INTO domicile.gateway_gaps (gateway, first, last, seq, at_us) \
             SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) \
             ON CONFLICT (gateway, first) DO UPDATE SET last = excluded.last",
        )
        .bind(gateways)
        .bind(firsts)
        .bind(of(&|gap| column(gap.last)))
        .bind(of(&|gap| column(gap.seq)))
        .bind(of(&|gap| gap.at_us))
        .execute(connection)
        .await?;
    }
    Ok(())
}
