//! Reads every topic of a region from the beginning, prints each event once, and at the end says what is missing.
//!
//! Its ledger lives as long as it does. So it commits no offsets either, and every run is a group of its own: who goes
//! on behind an offset without the ledger that belongs to it takes what came before for missing. A consumer that keeps
//! its ledger keeps its group, and commits a message's offset after the ledger with it is durable.
//!
//!     cargo run -p example-consumer -- --brokers 127.0.0.1:9092 --region eu-central

use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use example_consumer::{Coordinates, Ledger, Verdict};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// Reads a region's topics: each event once, in order.
#[derive(Parser)]
struct Args {
    /// The region's brokers, `host:port`, with commas.
    #[arg(long)]
    brokers: String,
    /// The region, e.g. `eu-central`.
    #[arg(long)]
    region: String,
    /// How the name of this run's consumer group begins.
    #[arg(long, default_value = "example-consumer")]
    group: String,
    /// End after this long without a message, in seconds.
    #[arg(long, default_value_t = 10)]
    idle_s: u64,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its terminal")]
fn main() -> Result<()> {
    let args = Args::parse();
    let run = UNIX_EPOCH.elapsed().context("the clock is before 1970")?.as_nanos();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &args.brokers)
        .set("group.id", format!("{}-{run:x}", args.group))
        .set("auto.offset.reset", "earliest")
        // The place in the topics goes with the ledger.
        .set("enable.auto.commit", "false")
        .create()
        .context("no consumer could be made")?;
    // Every topic of this region and of no other: `eu-central.` and not `eu-central-2.`.
    let pattern = format!("^{}\\..*", args.region.replace('.', "\\."));
    consumer.subscribe(&[pattern.as_str()]).context("the topics could not be subscribed to")?;
    let (mut ledger, mut skipped) = (Ledger::default(), 0);
    let (idle, mut heard) = (Duration::from_secs(args.idle_s), Instant::now());
    while heard.elapsed() < idle {
        // Nothing within this time, or something else than a message happened: the group's partitions were assigned anew.
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        heard = Instant::now();
        let message = message.context("the brokers did not deliver")?;
        let at = coordinates(&message)?;
        match ledger.take(&at).map_err(|sentence| anyhow!(sentence))? {
            Verdict::New => println!("{} {} {}", at.seq, at.topic, header(&message, "ce_id").unwrap_or("-")),
            Verdict::Seen => skipped += 1,
            Verdict::Overtaken => eprintln!("out of order: {} in {}", at.seq, at.topic),
        }
    }
    let missing = ledger.missing();
    eprintln!("{} events, {skipped} skipped as seen, {} missing", ledger.events(), missing.len());
    if missing.is_empty() { Ok(()) } else { Err(anyhow!("missing: {missing:?}")) }
}

fn coordinates(message: &BorrowedMessage<'_>) -> Result<Coordinates> {
    let number = |name: &str| -> Result<u64> {
        let text = header(message, name).with_context(|| format!("a message has no header {name}"))?;
        text.parse().with_context(|| format!("the header {name} is no number"))
    };
    Ok(Coordinates {
        log: header(message, "domicile_log").context("a message has no header domicile_log")?.to_owned(),
        seq: number("domicile_seq")?,
        prev: number("domicile_prev")?,
        topic: message.topic().to_owned(),
        key: message.key().unwrap_or_default().to_vec(),
    })
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
