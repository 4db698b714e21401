"""Reads every topic of a region: each event once, in order, and notices what is missing.

    pip install confluent-kafka
    python consumer.py --brokers 127.0.0.1:9092 --region eu-central

The Ledger is all that matters, and needs no Kafka: it takes what the headers say. The Rust example beside it
(examples/consumer) decides the same; domicile's tests hold the two against each other by

    python consumer.py --ndjson < messages.ndjson

where each line is {"log", "seq", "prev", "topic", "key"}.

Delivery is at least once. (domicile_log, domicile_seq) names an event for ever: per topic and key keep the newest
sequence number and skip what was seen. Every message names the event before it in the log, domicile_prev: who reads
all topics of a region has seen everything when every predecessor that was named has come.

This ledger lives as long as the process. So nothing is committed either, and every run is a group of its own: who goes
on behind an offset without the ledger that belongs to it takes what came before for missing. A consumer that keeps its
ledger keeps its group, and commits after the ledger with a message is durable: `consumer.commit(message=message)`.
"""

import argparse
import json
import sys
import uuid


class Ledger:
    """What was seen of one region's log. A real consumer keeps it beside its own data, in the same transaction."""

    def __init__(self):
        self.log = None
        self.newest = {}
        self.seen = set()
        self.named = set()

    def take(self, log, seq, prev, topic, key):
        """'new': use it. 'seen': skip it. 'overtaken': a later one of its key was used already."""
        if self.log is None:
            self.log = log
        if log != self.log:
            raise ValueError(f"this is an event of the log {log}, not of {self.log}")
        if seq in self.seen:
            return "seen"
        self.seen.add(seq)
        self.named.add(prev)
        if seq > self.newest.get((topic, key), 0):
            self.newest[topic, key] = seq
            return "new"
        return "overtaken"

    def missing(self):
        """Events that must exist and have not come (yet); what lies before the first one seen is no gap."""
        if not self.seen:
            return []
        first = min(self.seen)
        return sorted(seq for seq in self.named - self.seen if seq >= first)


def from_ndjson(lines):
    for line in lines:
        message = json.loads(line)
        yield message["log"], message["seq"], message["prev"], message["topic"], message["key"], "-"


def from_kafka(args):
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": args.brokers,
            "group.id": f"{args.group}-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
            # The place in the topics goes with the ledger.
            "enable.auto.commit": False,
        }
    )
    # Every topic of this region and of no other: `eu-central.` and not `eu-central-2.`.
    consumer.subscribe(["^" + args.region.replace(".", "\\.") + "\\..*"])
    try:
        while (message := consumer.poll(args.idle_s)) is not None:
            if message.error():
                raise RuntimeError(message.error())
            headers = {name: value.decode() for name, value in message.headers() or []}
            yield (
                headers["domicile_log"],
                int(headers["domicile_seq"]),
                int(headers["domicile_prev"]),
                message.topic(),
                message.key(),
                headers.get("ce_id", "-"),
            )
    finally:
        consumer.close()


def main():
    parser = argparse.ArgumentParser(description="Reads a region's topics: each event once, in order.")
    parser.add_argument("--brokers", help="the region's brokers, host:port, with commas")
    parser.add_argument("--region", help="the region, e.g. eu-central")
    parser.add_argument("--group", default="example-consumer", help="how the name of this run's group begins")
    parser.add_argument("--idle-s", type=float, default=10.0, help="end after this long without a message")
    parser.add_argument("--ndjson", action="store_true", help="read coordinates from standard input, and say the verdicts only")
    args = parser.parse_args()
    ledger, counts = Ledger(), {"new": 0, "seen": 0, "overtaken": 0}
    messages = from_ndjson(sys.stdin) if args.ndjson else from_kafka(args)
    for log, seq, prev, topic, key, name in messages:
        verdict = ledger.take(log, seq, prev, topic, key)
        counts[verdict] += 1
        if verdict == "new" and not args.ndjson:
            print(seq, topic, name)
    missing = ledger.missing()
    print(json.dumps({**counts, "events": len(ledger.seen), "missing": missing}))
    return 1 if missing or counts["overtaken"] else 0


if __name__ == "__main__":
    sys.exit(main())
