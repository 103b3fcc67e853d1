use std::fmt::Write;

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    baggage::{Baggage, BaggageExt},
    trace::{SpanContext, TraceContextExt, TraceState},
};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{CallSpan, Spans};
use crate::{Carrier, Side};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";
/// What W3C's recommendation asks everybody to pass on; more is left out.
const MOST_BYTES: usize = 8_192;
const MOST_MEMBERS: usize = 64;

impl Spans {
    /// Writes the span's context into a request that goes out, or takes that of one that came in.
    pub(crate) fn pass_on(self, side: Side, span: &CallSpan, carrier: Option<&mut dyn Carrier>) {
        let Some(carrier) = carrier.filter(|_| self.are_passed_on && !span.0.is_disabled()) else {
            return;
        };
        match side {
            Side::Server => {
                if let Some(context) = extract(carrier) {
                    // Fails only where no layer for OpenTelemetry listens: nothing to do then.
                    let _ = span.0.set_parent(context);
                }
            }
            Side::Client | Side::Attempt => inject(&span.0.context(), carrier),
        }
    }
}

fn inject(context: &Context, carrier: &mut dyn Carrier) {
    let span = context.span();
    let span = span.span_context();
    if span.is_valid() {
        carrier.set(TRACEPARENT, &traceparent(span));
        let state = span.trace_state().header();
        if !state.is_empty() {
            carrier.set(TRACESTATE, &state);
        }
    }
    let baggage = written(context.baggage());
    if !baggage.is_empty() {
        carrier.set(BAGGAGE, &baggage);
    }
}

fn extract(carrier: &dyn Carrier) -> Option<Context> {
    let span = carrier.get(TRACEPARENT).and_then(parse_traceparent);
    let baggage = carrier.get(BAGGAGE).map(parse_baggage).filter(|baggage| !baggage.is_empty());
    if span.is_none() && baggage.is_none() {
        return None;
    }
    let mut context = Context::new();
    if let Some((trace, parent, flags)) = span {
        // A state that cannot be read does not cost the trace.
        let state = carrier.get(TRACESTATE).and_then(|state| state.parse::<TraceState>().ok());
        let span = SpanContext::new(trace, parent, flags, true, state.unwrap_or_default());
        context = context.with_remote_span_context(span);
    }
    Some(match baggage {
        Some(baggage) => context.with_baggage(baggage),
        None => context,
    })
}

fn traceparent(span: &SpanContext) -> String {
    let sampled = span.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), sampled.to_u8())
}

/// Reads `00-<trace>-<span>-<flags>`; a later version may have more after that.
fn parse_traceparent(header: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = header.trim().split('-');
    let version = hex(parts.next()?, 2)?;
    let trace = TraceId::from_hex(hex(parts.next()?, 32)?).ok()?;
    let span = SpanId::from_hex(hex(parts.next()?, 16)?).ok()?;
    let flags = u8::from_str_radix(hex(parts.next()?, 2)?, 16).ok()?;
    let is_known = version != "ff" && (version != "00" || parts.next().is_none());
    let is_valid = is_known && trace != TraceId::INVALID && span != SpanId::INVALID;
    is_valid.then_some((trace, span, TraceFlags::new(flags) & TraceFlags::SAMPLED))
}

/// Exactly so many digits in lower case, as the recommendation has it.
fn hex(part: &str, digits: usize) -> Option<&str> {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (part.len() == digits && part.bytes().all(is_digit)).then_some(part)
}

/// Reads `key=value;properties,…`; what cannot be read is left out.
fn parse_baggage(header: &str) -> Baggage {
    let members = header.split(',').take(MOST_MEMBERS).filter_map(|member| {
        let (key, rest) = member.split_once('=')?;
        let value = rest.split(';').next().unwrap_or_default();
        let key = key.trim();
        let value = decode(value.trim())?;
        (!key.is_empty()).then(|| KeyValue::new(key.to_owned(), value))
    });
    members.collect()
}

fn written(baggage: &Baggage) -> String {
    let mut header = String::new();
    for (key, (value, _)) in baggage.iter().take(MOST_MEMBERS) {
        let before = header.len();
        if before > 0 {
            header.push(',');
        }
        header.push_str(key.as_str());
        header.push('=');
        encode(value.as_str(), &mut header);
        if header.len() > MOST_BYTES {
            header.truncate(before);
            break;
        }
    }
    header
}

/// All but what the recommendation allows in a value goes as `%XX`.
fn encode(value: &str, header: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\' | b'%') {
            header.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(header, "%{byte:02X}");
        }
    }
}

fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [byte, after @ ..] = rest {
        if *byte == b'%' {
            let [high, low, after @ ..] = after else { return None };
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
            bytes.push(digit(*high)? * 16 + digit(*low)?);
            rest = after;
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_as_it_was_written() {
        let (trace, span, flags) = parse_traceparent(HEADER).unwrap();
        let context = SpanContext::new(trace, span, flags, true, TraceState::default());
        assert_eq!(traceparent(&context), HEADER);
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-holds";
        assert!(parse_traceparent(later).is_some());
    }

    #[test]
    fn a_traceparent_that_is_none_is_not_taken_for_one() {
        let faulty = [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ];
        for header in faulty {
            assert!(parse_traceparent(header).is_none(), "{header}");
        }
    }

    #[test]
    fn baggage_is_read_as_it_was_written_whatever_is_in_it() {
        let value = "100 % of \"it\", so; far\\é";
        let baggage: Baggage = [KeyValue::new("user", value)].into_iter().collect();
        let header = written(&baggage);
        assert!(header.is_ascii() && !header.contains([' ', '"', ';', '\\']), "{header}");
        assert_eq!(parse_baggage(&header).get("user").unwrap().as_str(), value);
    }

    #[test]
    fn baggage_that_cannot_be_read_is_left_out_and_the_rest_is_not() {
        let baggage = parse_baggage("a=1;secret, b = 2 ,nonsense,=x,c=%zz,d=%4");
        let read = |key: &str| baggage.get(key).map(|value| value.as_str().to_owned());
        assert_eq!((read("a"), read("b")), (Some("1".into()), Some("2".into())));
        assert_eq!(baggage.len(), 2);
    }

    #[test]
    fn baggage_is_bounded() {
        let many = (0..1_000).map(|n| format!("key{n}={n}")).collect::<Vec<_>>().join(",");
        assert!(parse_baggage(&many).len() <= MOST_MEMBERS);
        let long = (0..60).map(|n| KeyValue::new(format!("k{n}"), "%".repeat(120)));
        assert!(written(&long.collect()).len() <= MOST_BYTES);
    }
}
