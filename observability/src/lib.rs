#![doc = "Metrics, traces, events and a live page for Outrigger's layers."]
#![forbid(unsafe_code)]
