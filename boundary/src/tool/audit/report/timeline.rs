//! When it was asked.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::ledger::{Ledger, Verdicts};
use super::page::{number, scaled};

/// How many bars there are at the most.
const BARS: i64 = 72;
/// How long a bar may stand for, in seconds: what people count in.
const WIDTHS: [i64; 16] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 10_800, 43_200, 86_400];
/// The height of the drawing.
const HEIGHT: u64 = 200;

/// So much in so many seconds from a moment on.
struct Bar {
    from: i64,
    verdicts: Verdicts,
}

/// The drawing, and the same as a table.
pub(super) fn timeline(ledger: &Ledger, zone: &TimeZone) -> Markup {
    let (width, bars) = bars(ledger);
    let most = bars.iter().map(|bar| bar.verdicts.sum()).max().unwrap_or(0);
    let time = |second: i64| clock(second, zone);
    let ends = bars.first().zip(bars.last());
    html! {
        section aria-labelledby="timeline" {
            h2 #timeline { "Timeline" }
            @if let Some((first, last)) = ends {
                p.key { span { "allowed" } span.deny { "denied" }
                    "a bar is " (span(width)) "; the tallest is " (number(most)) }
                (drawing(&bars, most, &time))
                div.axis aria-hidden="true" {
                    span { (time(first.from)) } span { (time(last.from + width)) }
                }
                details {
                    summary { "As a table" }
                    div.scroll tabindex="0" role="group" aria-label="Timeline as a table" { table {
                        thead { tr {
                            th scope="col" { "From" } th.n scope="col" { "Allowed" }
                            th.n scope="col" { "Denied" }
                        } }
                        tbody { @for bar in bars.iter().filter(|bar| bar.verdicts.sum() > 0) { tr {
                            td { (time(bar.from)) } td.n { (number(bar.verdicts.allowed)) }
                            td.n { (number(bar.verdicts.denied)) }
                        } } }
                    } }
                }
            } @else {
                p.faint { "Nothing was asked." }
            }
        }
    }
}

/// The bars, the refused on top of the granted.
fn drawing(bars: &[Bar], most: u64, time: &impl Fn(i64) -> String) -> Markup {
    let (allowed, denied) = bars.iter().fold((0, 0), |(allowed, denied), bar| {
        (allowed + bar.verdicts.allowed, denied + bar.verdicts.denied)
    });
    html! {
        svg.line viewBox={ "0 0 " (bars.len() * 10) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-label={ (number(allowed)) " allowed and " (number(denied)) " denied over time" } {
            @for (index, bar) in bars.iter().enumerate() {
                @let low = scaled(bar.verdicts.allowed, most, HEIGHT);
                @let high = scaled(bar.verdicts.denied, most, HEIGHT).min(HEIGHT - low.min(HEIGHT));
                g {
                    title { (time(bar.from)) ": " (bar.verdicts.allowed) " allowed, "
                        (bar.verdicts.denied) " denied" }
                    rect.allow x=(index * 10 + 1) y=(HEIGHT - low) width="8" height=(low) {}
                    rect.deny x=(index * 10 + 1) y=(HEIGHT - low - high) width="8" height=(high) {}
                }
            }
        }
    }
}

/// The bars from first to last, and what each stands for.
fn bars(ledger: &Ledger) -> (i64, Vec<Bar>) {
    let ends = ledger.seconds.first_key_value().zip(ledger.seconds.last_key_value());
    let Some(((&first, _), (&last, _))) = ends else { return (1, Vec::new()) };
    let length = last.saturating_sub(first).saturating_add(1);
    let fits = |width: &&i64| length / **width < BARS;
    let width = WIDTHS.iter().find(fits).copied().unwrap_or(length / BARS + 1);
    let start = first - first.rem_euclid(width);
    let count = (last - start) / width + 1;
    let bars = (0..count).map(|index| {
        let from = start + index * width;
        let mut verdicts = Verdicts::default();
        for (_, second) in ledger.seconds.range(from..from + width) {
            verdicts.allowed += second.allowed;
            verdicts.denied += second.denied;
        }
        Bar { from, verdicts }
    });
    (width, bars.collect())
}

/// A moment, to the second.
fn clock(second: i64, zone: &TimeZone) -> String {
    Timestamp::from_second(second).map_or_else(
        |_| second.to_string(),
        |time| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// So long, in words.
fn span(seconds: i64) -> String {
    match seconds {
        1 => "a second".to_owned(),
        ..60 => format!("{seconds} seconds"),
        60 => "a minute".to_owned(),
        61..3600 => format!("{} minutes", seconds / 60),
        3600 => "an hour".to_owned(),
        3601..86_400 => format!("{} hours", seconds / 3600),
        86_400 => "a day".to_owned(),
        _ => format!("{} days", seconds / 86_400),
    }
}
