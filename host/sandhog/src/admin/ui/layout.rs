//! The frame of a page: its head, the bar at its top, and what the last action has done.

use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use maud::{DOCTYPE, Markup, html};

use super::{assets, form::TOKEN, sessions::UiCaller, shown::foreign};
use sandhog_queue::machine_clock::wall_ms;

/// What is around a page.
#[derive(Debug)]
pub(super) struct Frame {
    title: String,
    caller: Option<UiCaller>,
    is_live: bool,
    notice: Option<String>,
}

/// The part of a page that changes, as it goes to pages that are open.
#[derive(Debug, Clone)]
pub(super) struct MainPart(pub(super) String);

impl Frame {
    /// A page for nobody in particular.
    pub(super) fn plain(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            caller: None,
            is_live: false,
            notice: None,
        }
    }

    /// A page for somebody.
    pub(super) fn of(caller: &UiCaller, title: &str) -> Self {
        Self {
            caller: Some(caller.clone()),
            ..Self::plain(title)
        }
    }

    /// The page updates itself.
    pub(super) fn live(mut self) -> Self {
        self.is_live = true;
        self
    }

    /// What the last action has done.
    pub(super) fn with_notice(mut self, notice: Option<String>) -> Self {
        self.notice = notice;
        self
    }
}

/// Returns the field that each form carries.
pub(super) fn token(caller: &UiCaller) -> Markup {
    html! { input type="hidden" name=(TOKEN) value=(caller.token); }
}

/// Returns a page.
pub(super) fn page(frame: &Frame, main: Markup) -> Response {
    let main = main.into_string();
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (foreign_title(&frame.title)) }
                link rel="icon" type="image/svg+xml" href=(assets::icon());
                link rel="stylesheet" href=(assets::style());
                script src=(assets::script()) defer {}
            }
            body data-now=(wall_ms()) data-live[frame.is_live] {
                a.skip href="#main" { "Skip to the content" }
                (bar(frame))
                @if let Some(notice) = &frame.notice { p.notice role="status" { (foreign(notice)) } }
                main #main tabindex="-1" { (maud::PreEscaped(&main)) }
                (help())
            }
        }
    };
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    let mut answer = (kind, text.into_string()).into_response();
    answer.extensions_mut().insert(MainPart(main));
    answer
}

fn foreign_title(title: &str) -> String {
    format!("{} · sandhog", sandhog_queue::printable::printable(title, 120))
}

fn bar(frame: &Frame) -> Markup {
    html! {
        header.bar {
            a.mark href="/ui" { "sandhog" }
            @if let Some(caller) = &frame.caller {
                nav aria-label="Pages" {
                    a href="/ui" aria-current=[(frame.title == "Overview").then_some("page")] { "Overview" }
                }
                form.find method="get" action="/ui/messages" role="search" {
                    input type="search" name="id" placeholder="Message id" aria-label="Find a message by its id" maxlength="200";
                }
                div.bar-end {
                    button.live type="button" #live hidden aria-pressed="true" title="Pause or resume the updates (p)" { "Live" }
                    button.quiet type="button" #keys hidden title="Keyboard shortcuts (?)" { "Keys" }
                    @if !caller.may_change() { span.pill { "read-only" } }
                    @if caller.has_session {
                        form method="post" action="/ui/logout" { (token(caller)) button.quiet type="submit" { "Log out" } }
                    }
                }
            }
        }
    }
}

fn help() -> Markup {
    let keys = [
        ("/", "search on this page, or find a message by its id"),
        ("j k", "next or previous row"),
        ("Enter", "open the row"),
        ("g o", "overview"),
        ("u", "one level up"),
        ("p", "pause or resume the updates"),
        ("?", "this list"),
        ("Esc", "leave a field, or close this"),
    ];
    html! {
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keyboard" }
            dl.keys { @for (key, what) in keys { dt { kbd { (key) } } dd { (what) } } }
            form method="dialog" { button type="submit" { "Close" } }
        }
    }
}
