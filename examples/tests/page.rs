//! A real browser looks at the page of what governance does.

use std::{path::Path, time::Duration};

use axum::Router;
use outrigger_circuitbreak::{CircuitBreaker, CircuitBreakerPolicy, State};
use outrigger_core::Outcome;
use outrigger_examples::serve::Serving;
use outrigger_observability::{Diagnosis, DiagnosisService};
use serde_json::json;
use tokio::{net::TcpListener, time::Instant};
use tower::BoxError;

#[path = "support/browser.rs"]
mod browser;
mod support;

use browser::Browser;
use support::tool;

type TestResult = Result<(), BoxError>;

const TOKEN: &str = "a token for the tests";
const IS_LIVE: &str = "document.querySelector('#line')?.dataset.state === 'live'";

/// The page of a breaker of this name.
async fn serve(name: &str) -> Result<(CircuitBreaker<Diagnosis>, String), BoxError> {
    let diagnosis = Diagnosis::new();
    let policy = CircuitBreakerPolicy::builder().error_rate(0.5, 20).build()?;
    let breaker = CircuitBreaker::builder(policy).name(name).observe(diagnosis.clone()).build();
    diagnosis.register("calls of the shop", breaker.downgrade());
    let page = DiagnosisService::new(diagnosis).allow_changes(TOKEN)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async { axum::serve(listener, Router::new().fallback_service(page)).await });
    Ok((breaker, address))
}

/// The page of the quickstart, as soon as there is something of everything on it.
async fn quickstart(file: &Path) -> Result<Browser, BoxError> {
    let serving = Serving::start(0).await?;
    let address = format!("http://{}/", serving.address()?);
    tokio::spawn(serving.run());
    let mut browser = Browser::start(file).await?;
    browser.go_to(&address).await?;
    let sections = "[...document.querySelectorAll('main section[id]:not(#nothing)')]";
    browser.until(&format!("{sections}.every(section => !section.hidden)")).await?;
    Ok(browser)
}

fn call(breaker: &CircuitBreaker<Diagnosis>, outcome: Outcome) -> TestResult {
    breaker.try_acquire()?.record(outcome);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_opens_is_seen_within_two_seconds() -> TestResult {
    let Some(file) = tool("chromium") else { return Ok(()) };
    let (breaker, address) = serve("orders").await?;
    let mut browser = Browser::start(&file).await?;
    browser.go_to(&address).await?;
    browser.until(IS_LIVE).await?;
    let state = "document.querySelector('#breakers .row .state')?.innerText";
    browser.until(&format!("{state} === 'closed'")).await?;

    for _ in 0..20 {
        call(&breaker, Outcome::Failure)?;
    }
    let opened = Instant::now();
    assert_eq!(breaker.state(), State::Open);
    browser.until(&format!("{state} === 'open'")).await?;
    let took = opened.elapsed();
    assert!(took < Duration::from_secs(2), "it took {took:?}");

    assert_eq!(browser.eval("document.title").await?, "(1 open) Outrigger");
    assert_eq!(
        browser.eval("document.querySelector('#summary').innerText").await?,
        "1 circuit open"
    );
    browser.until("document.querySelector('#events')?.innerText.includes('closed → open')").await?;
    assert_eq!(browser.complaints(), <[String; 0]>::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_markup_is_shown_as_it_is_and_does_nothing() -> TestResult {
    let Some(file) = tool("chromium") else { return Ok(()) };
    let name = "<img src=x onerror=\"document.title='caught'\"><script>alert(1)</script>&amp;'\"";
    let (breaker, address) = serve(name).await?;
    let mut browser = Browser::start(&file).await?;
    breaker.force_open();
    browser.go_to(&address).await?;
    for shown in ["#breakers .name b", "#events .row b"] {
        browser.until(&format!("document.querySelector('{shown}') !== null")).await?;
        let text = format!("document.querySelector('{shown}').textContent");
        assert_eq!(browser.eval(&text).await?, name);
    }
    assert_eq!(browser.eval("document.images.length").await?, 0);
    assert_eq!(browser.eval("document.scripts.length").await?, 1);
    assert_eq!(browser.eval("document.title").await?, "(1 open) Outrigger");
    assert_eq!(browser.complaints(), <[String; 0]>::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_token_can_force_a_circuit_open_after_a_second_click() -> TestResult {
    let Some(file) = tool("chromium") else { return Ok(()) };
    let (breaker, address) = serve("orders").await?;
    let mut browser = Browser::start(&file).await?;
    browser.go_to(&address).await?;
    browser.until("document.querySelector('.more') !== null").await?;
    assert_eq!(browser.eval("document.querySelector('.more').hidden").await?, true);

    let unlock = format!(
        "document.querySelector('#unlock').click();
        document.querySelector('#token').value = {};
        document.querySelector('#keyhole').requestSubmit();
        document.querySelector('.more').click();",
        json!(TOKEN)
    );
    browser.eval(&unlock).await?;
    let click = "document.querySelector('.orders button').click()";
    browser.eval(click).await?;
    assert_eq!(
        browser.eval("document.querySelector('.orders button').innerText").await?,
        "Force open: sure?"
    );
    assert_eq!(breaker.state(), State::Closed);
    browser.eval(click).await?;
    let state = "document.querySelector('#breakers .row .state')?.innerText";
    browser.until(&format!("{state} === 'forced open'")).await?;
    assert_eq!(breaker.state(), State::ForcedOpen);
    assert_eq!(browser.complaints(), <[String; 0]>::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_quickstart_fits_a_phone_in_light_and_dark() -> TestResult {
    let Some(file) = tool("chromium") else { return Ok(()) };
    let mut browser = quickstart(&file).await?;

    for width in [390, 1_200] {
        browser.resize(width, 844).await?;
        browser.until(&format!("innerWidth === {width}")).await?;
        let beyond = "[...document.querySelectorAll('body *')]
            .filter(node => node.getBoundingClientRect().right > innerWidth + 0.5)
            .map(node => node.className + ' ' + node.textContent.slice(0, 60))";
        assert_eq!(browser.eval(beyond).await?, json!([]), "reaches out of a window of {width}");
        let scrolled = "document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(browser.eval(scrolled).await?, true, "scrolls sideways at {width}");
        let small = "[...document.querySelectorAll('body *')]
            .filter(node => node.innerText && parseFloat(getComputedStyle(node).fontSize) < 11)
            .length";
        assert_eq!(browser.eval(small).await?, 0, "texts that are too small to read");
    }

    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await?;
        let ground = "getComputedStyle(document.body).backgroundColor";
        grounds.push(browser.eval(ground).await?);
        // What WCAG asks for of text.
        let contrast = browser.eval(CONTRAST).await?;
        let least = contrast[0].as_f64();
        assert!(least.is_some_and(|least| least >= 4.5), "{scheme}: {contrast}");
    }
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!(browser.complaints(), <[String; 0]>::default());
    Ok(())
}

/// The least contrast between a text and what is behind it, and where.
const CONTRAST: &str = "(() => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => {
        const [r, g, b] = numbers(colour).map(n => n / 255)
            .map(n => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = node => {
        const colour = getComputedStyle(node).backgroundColor;
        return numbers(colour)[3] === 0 ? behind(node.parentElement) : colour;
    };
    const worst = [...document.querySelectorAll('body *')]
        .filter(node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()))
        .filter(node => node.offsetParent && !['SCRIPT', 'NOSCRIPT'].includes(node.tagName))
        .map(node => {
            const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05),
                node.className + ' ' + node.textContent.slice(0, 40)];
        });
    return worst.reduce((least, one) => one[0] < least[0] ? one : least);
})()";
