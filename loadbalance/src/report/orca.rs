//! ORCA's reports in headers and trailers (xDS' `orca_load_report.proto`, gRPC's A51 and A58).

use base64::{Engine, decoded_len_estimate, engine::general_purpose::STANDARD_NO_PAD};
use http::HeaderMap;
use prost::Message;
use serde::Deserialize;

use super::LoadReport;

/// Protobuf in base64, as gRPC sends it in trailers.
const BINARY: &str = "endpoint-load-metrics-bin";
/// `TEXT key=value, ..`, `JSON {..}` or `BIN base64`, as Envoy understands it in a header.
const TEXT: &str = "endpoint-load-metrics";

/// A report is some tens of bytes; one with very many named metrics is read from the heap.
const USUAL_BYTES: usize = 256;

/// The part of `xds.data.orca.v3.OrcaLoadReport` that weights are made of. What else is in it is
/// skipped. In JSON a name may be written either way, as protobuf's JSON allows.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct OrcaLoadReport {
    #[prost(double, tag = "1")]
    #[serde(alias = "cpuUtilization")]
    cpu_utilization: f64,
    #[prost(double, tag = "6")]
    #[serde(alias = "rpsFractional")]
    rps_fractional: f64,
    #[prost(double, tag = "7")]
    eps: f64,
    #[prost(double, tag = "9")]
    #[serde(alias = "applicationUtilization")]
    application_utilization: f64,
}

impl From<OrcaLoadReport> for LoadReport {
    /// What the application says of its use counts more than what the processor does (A58).
    fn from(report: OrcaLoadReport) -> Self {
        let application = report.application_utilization;
        let utilization = if application > 0.0 { application } else { report.cpu_utilization };
        Self { qps: report.rps_fractional, eps: report.eps, utilization }
    }
}

impl LoadReport {
    /// Reads an ORCA report from the headers or trailers of a response: `endpoint-load-metrics-bin`,
    /// or `endpoint-load-metrics` in its forms `TEXT`, `JSON` and `BIN`. `None` where there is none,
    /// or none that can be read.
    ///
    /// A [`BalanceService`](crate::BalanceService) that follows bodies (`.grpc()`, `.http()`) reads
    /// trailers by itself. To heed a header, wrap the endpoint:
    ///
    /// ```
    /// use http::HeaderMap;
    /// use outrigger_loadbalance::LoadReport;
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.insert(
    ///     "endpoint-load-metrics",
    ///     "TEXT cpu_utilization=0.3,rps_fractional=200,eps=2".parse()?,
    /// );
    /// let report = LoadReport::from_headers(&headers);
    /// assert_eq!(report, Some(LoadReport { qps: 200.0, eps: 2.0, utilization: 0.3 }));
    /// // .map_response(move |response| { .. balance.report("endpoint", &report) .. response })
    /// # Ok::<_, http::header::InvalidHeaderValue>(())
    /// ```
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        if let Some(value) = headers.get(BINARY) {
            return of_base64(value.as_bytes()).map(Self::from);
        }
        let (form, text) = headers.get(TEXT)?.to_str().ok()?.split_once(' ')?;
        match form {
            "JSON" => serde_json::from_str::<OrcaLoadReport>(text).ok().map(Self::from),
            "TEXT" => of_text(text).map(Self::from),
            "BIN" => of_base64(text.as_bytes()).map(Self::from),
            _ => None,
        }
    }
}

fn of_base64(text: &[u8]) -> Option<OrcaLoadReport> {
    // Padding is optional in gRPC.
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let text = &text[..end];
    let mut usual = [0; USUAL_BYTES];
    if decoded_len_estimate(text.len()) > USUAL_BYTES {
        return OrcaLoadReport::decode(&*STANDARD_NO_PAD.decode(text).ok()?).ok();
    }
    let length = STANDARD_NO_PAD.decode_slice(text, &mut usual).ok()?;
    OrcaLoadReport::decode(&usual[..length]).ok()
}

/// `key=value, ..`; `key:value` is understood as well.
fn of_text(text: &str) -> Option<OrcaLoadReport> {
    let mut report = OrcaLoadReport::default();
    for pair in text.split(',') {
        let (key, value) = pair.split_once(['=', ':'])?;
        let value: f64 = value.trim().parse().ok()?;
        match key.trim() {
            "cpu_utilization" => report.cpu_utilization = value,
            "rps_fractional" => report.rps_fractional = value,
            "eps" => report.eps = value,
            "application_utilization" => report.application_utilization = value,
            _ => {}
        }
    }
    Some(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &str) -> Option<LoadReport> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        LoadReport::from_headers(&headers)
    }

    #[test]
    fn all_forms_say_the_same() {
        let said = LoadReport { qps: 120.0, eps: 3.0, utilization: 0.6 };
        // Fields 1, 6, 7, 9 and one that is not known, by hand: tag, then eight bytes.
        let mut message = Vec::new();
        for (tag, value) in [(1_u8, 0.2_f64), (2, 0.9), (6, 120.0), (7, 3.0), (9, 0.6)] {
            message.push(tag << 3 | 1);
            message.extend(value.to_le_bytes());
        }
        let encoded = STANDARD_NO_PAD.encode(&message);
        assert_eq!(read(BINARY, &encoded), Some(said));
        assert_eq!(read(BINARY, &format!("{encoded}==")), Some(said));
        assert_eq!(read(TEXT, &format!("BIN {encoded}")), Some(said));
        // A field of text that is not known, longer than a usual report.
        message.extend([15 << 3 | 2, 0xff, 0x07]);
        message.extend([b'x'; 1023]);
        assert_eq!(read(BINARY, &STANDARD_NO_PAD.encode(&message)), Some(said));
        let text = "TEXT cpu_utilization=0.2, rps_fractional=120,eps:3,application_utilization=0.6";
        assert_eq!(read(TEXT, text), Some(said));
        let json = r#"JSON {"cpu_utilization": 0.6, "rps_fractional": 120, "eps": 3, "x": {}}"#;
        assert_eq!(read(TEXT, json), Some(said));
        let json = r#"JSON {"cpuUtilization": 0.2, "rpsFractional": 120, "eps": 3, "applicationUtilization": 0.6}"#;
        assert_eq!(read(TEXT, json), Some(said));
    }

    #[test]
    fn what_cannot_be_read_is_no_report() {
        for value in ["", "%%%", "AAA", "====="] {
            assert!(
                read(BINARY, value).is_none_or(|report| report.weight(1.0).is_none()),
                "{value}"
            );
        }
        for value in ["", "TEXT", "TEXT eps", "TEXT eps=x", "JSON {", "XML <a/>"] {
            assert_eq!(read(TEXT, value), None, "{value}");
        }
        assert_eq!(LoadReport::from_headers(&HeaderMap::new()), None);
        let nonsense = read(TEXT, "TEXT rps_fractional=NaN,cpu_utilization=inf").unwrap();
        assert_eq!(nonsense.weight(1.0), None);
    }
}
