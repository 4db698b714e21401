//! `cargo xtask soak <name> [--short]`: one long acceptance run.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use system_tests::soak::{self, Length, Outage};

/// Plays one long acceptance run in a world of real servers.
#[derive(Parser)]
struct Args {
    /// Which one.
    name: Name,
    /// The form that the test command plays.
    #[arg(long)]
    short: bool,
    /// Of `streams` and `snowflake`: brokers or account are away for so many minutes under load, instead.
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "10")]
    outage: Option<f64>,
    /// Changes a second during an outage.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Seconds before and during an outage in which it is written as fast as one caller is answered.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    flat_out: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// The gateway is killed under write load: nothing acknowledged is lost, doubled or alone.
    Crash,
    /// Every store but their own is searched for people of many countries.
    Residency,
    /// The broker and the relay are killed again and again: no event is lost, none out of order.
    Streams,
    /// The forwarder is killed and its network is bad: the table equals what was declared.
    Snowflake,
    /// Two gateways pin the same new subject at the same instant.
    Race,
    /// A region's log under load and kills is verified again and again from outside; an edit is caught.
    Audit,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its terminal")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let length = if args.short { Length::Short } else { Length::Full };
    let begun = Instant::now();
    let outage = args.outage.map(|minutes| Outage {
        // Seconds in the short form.
        away: Duration::from_secs_f64(if args.short { minutes } else { minutes * 60.0 }),
        rate: args.rate,
        flat_out: Duration::from_secs(args.flat_out),
    });
    let outcome = match args.name {
        Name::Streams if outage.is_some() => soak::broker_away(outage.unwrap_or_default()).await,
        Name::Snowflake if outage.is_some() => soak::snowflake_away(outage.unwrap_or_default()).await,
        Name::Crash => soak::crash(length).await,
        Name::Residency => soak::residency(length).await,
        Name::Streams => soak::streams(length).await,
        Name::Snowflake => soak::snowflake(length).await,
        Name::Audit => soak::audit(length).await,
        Name::Race => soak::race(length).await,
    };
    match outcome {
        Ok(held) => {
            println!("held after {:.1} s: {held}", begun.elapsed().as_secs_f32());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("did not hold: {error:#}");
            ExitCode::FAILURE
        }
    }
}
