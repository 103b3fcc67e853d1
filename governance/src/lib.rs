#![doc = "Governance for any tower service: one policy per method, changed while traffic flows."]
#![forbid(unsafe_code)]
