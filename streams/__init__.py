"""When, where from, where to: declaration, topology, runtime, journal, state, Kafka.

    pipeline, declaration/      what an author declares, refused where it is not legal
    topology, topics            its stages, where their chain may be cut, and the topics in which they meet
    task, merge, stages/        one chain of stages over one partition: records in, records out
    state, stores, checkpoint   what it remembers, and how that is kept
    runtime, worker/            the cycle: fetch, process, publish and journal in one transaction
    journal, recovery, replay/  made again from the log: after a crash, by an audit, for one event
    models/, identity/          versions of models, their signatures and registry; what is the same as what
    memory                      the same chain without Kafka
    kafka/                      the one client of a cluster
    status/, metrics, control/  seen from outside: overview, Prometheus, the control plane and its page
    cli, commands/              what people type; demo/ and scaffold/ are two of them

Which folder may import which stands in `tests/unit/test_imports.py`.
"""
