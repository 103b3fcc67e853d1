//! A headless Chromium, driven by the protocol of its developer tools.

use std::path::Path;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};
use tower::BoxError;

use crate::support::{DEADLINE, Program};

/// One tab of a browser of its own.
pub(crate) struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    commands: u64,
    /// What the console said that is worse than a notice, and what nobody caught.
    complaints: Vec<String>,
    _program: Program,
    _folder: tempfile::TempDir,
}

impl Browser {
    pub(crate) async fn start(file: &Path) -> Result<Self, BoxError> {
        let folder = tempfile::tempdir()?;
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--remote-debugging-port=0",
            &format!("--user-data-dir={}", folder.path().display()),
            "about:blank",
        ]
        .map(str::to_owned);
        let program = Program::start(file, &arguments, "DevTools listening on ").await?;
        let (socket, _) = connect_async(program.announced.trim()).await?;
        let mut browser = Self {
            socket,
            session: None,
            commands: 0,
            complaints: Vec::new(),
            _program: program,
            _folder: folder,
        };
        browser.open_tab().await?;
        Ok(browser)
    }

    async fn open_tab(&mut self) -> Result<(), BoxError> {
        let tab = self.order("Target.createTarget", json!({"url": "about:blank"})).await?;
        let target = json!({"targetId": tab["targetId"], "flatten": true});
        let attached = self.order("Target.attachToTarget", target).await?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            self.order(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(())
    }

    pub(crate) async fn go_to(&mut self, address: &str) -> Result<(), BoxError> {
        let gone = self.order("Page.navigate", json!({"url": address})).await?;
        gone.get("errorText").map_or(Ok(()), |error| Err(format!("{address}: {error}").into()))
    }

    /// The width of the window, as a phone has it, or a screen.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) -> Result<(), BoxError> {
        let is_phone = width < 600;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.order("Emulation.setDeviceMetricsOverride", size).await.map(drop)
    }

    /// Whether the user prefers `light` or `dark`: at once, as for somebody who is spared motion,
    /// or what is read next would be a colour on its way from the one to the other.
    pub(crate) async fn prefer(&mut self, scheme: &str) -> Result<(), BoxError> {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.order("Emulation.setEmulatedMedia", json!({"features": features})).await.map(drop)
    }

    /// What an expression of JavaScript comes to.
    pub(crate) async fn eval(&mut self, expression: &str) -> Result<Value, BoxError> {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.order("Runtime.evaluate", asked).await?;
        match answer.get("exceptionDetails") {
            Some(thrown) => Err(format!("{expression}: {thrown}").into()),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// How long it takes until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str) -> Result<Duration, BoxError> {
        let begun = Instant::now();
        while self.eval(expression).await? != true {
            if begun.elapsed() > DEADLINE {
                let shown = self.eval("document.body.innerText").await?;
                return Err(format!("{expression}: still not, on the page\n{shown}").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(begun.elapsed())
    }

    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    async fn order(&mut self, method: &str, parameters: Value) -> Result<Value, BoxError> {
        self.commands += 1;
        let mut command = json!({"id": self.commands, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(command.to_string())).await?;
        timeout(DEADLINE, self.answer(method)).await?
    }

    async fn answer(&mut self, method: &str) -> Result<Value, BoxError> {
        while let Some(message) = self.socket.next().await {
            let Message::Text(text) = message? else { continue };
            let mut message: Value = serde_json::from_str(&text)?;
            if message["id"] == self.commands {
                return match message.get("error") {
                    Some(error) => Err(format!("{method}: {error}").into()),
                    None => Ok(message["result"].take()),
                };
            }
            self.hear(&message);
        }
        Err("the browser is gone".into())
    }

    fn hear(&mut self, event: &Value) {
        let told = &event["params"];
        let is_complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                ["error", "warning", "assert"].iter().any(|kind| told["type"] == *kind)
            }
            Some("Log.entryAdded") => {
                ["error", "warning"].iter().any(|level| told["entry"]["level"] == *level)
            }
            _ => false,
        };
        if is_complaint {
            self.complaints.push(event.to_string());
        }
    }
}
