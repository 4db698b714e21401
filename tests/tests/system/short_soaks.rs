//! The short form of each long acceptance run.

use system_tests::soak::{self, Length, Outage};

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_gateway_loses_nothing_acknowledged() {
    soak::crash(Length::Short).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_under_load_and_kills_verifies_from_outside_and_an_edit_is_caught() {
    soak::audit(Length::Short).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_disagree_make_one_pin() {
    soak::race(Length::Short).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_broker_and_the_relay_loses_no_event_and_breaks_no_order() {
    eprintln!("{}", soak::streams(Length::Short).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_network_and_dead_forwarders_leave_the_table_equal_to_what_was_declared() {
    eprintln!("{}", soak::snowflake(Length::Short).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_written_at_home_and_nowhere_else() {
    soak::residency(Length::Short).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_brokers_are_away_writes_go_on_and_everything_follows_later() {
    eprintln!("{}", soak::broker_away(Outage::default()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_snowflake_is_away_writes_go_on_and_everything_follows_later() {
    eprintln!("{}", soak::snowflake_away(Outage::default()).await.unwrap());
}
