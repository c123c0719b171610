//! Line plots and bars as SVG text, without scripts or anything from outside. Numbers only ever come from measurements;
//! names are escaped.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 38.0;
/// Height of a row of the legend.
const ROW: f64 = 14.0;
/// Marks on an axis, at most.
const MARKS_MAX: f64 = 6.0;
/// Of a name beside its bar.
const NAME_CHARS_MAX: usize = 33;
const COLOURS: [&str; 6] = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#475569"];

/// One line of a plot.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// What a plot shows, and how.
pub struct Plot<'a> {
    pub title: &'a str,
    pub y_name: &'a str,
    pub x_name: &'a str,
    /// Places and labels on the x axis; chosen if there are none.
    pub x_marks: &'a [(f64, &'a str)],
    /// The y axis counts powers of ten.
    pub logarithmic: bool,
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The step between marks of an axis up to `max`: 1, 2 or 5 times a power of ten, for at most [`MARKS_MAX`] steps.
fn step(max: f64) -> f64 {
    if max.is_nan() || max <= 0.0 || max.is_infinite() {
        return 1.0;
    }
    let least = max / MARKS_MAX;
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// Marks from 0 in even steps, up to `max` or just above it if `beyond`.
fn even_marks(max: f64, beyond: bool) -> Vec<f64> {
    let step = step(max);
    let steps = max / step * if beyond { 1.0 } else { 1.01 };
    let count = if beyond { steps.ceil().max(1.0) } else { steps.floor() };
    (0..=count as u32).map(|at| f64::from(at) * step).collect()
}

/// Marks at 1, 2 and 5 times powers of ten, or at the powers alone if those are many; the last is at least `max`.
fn logarithmic_marks(least: f64, max: f64) -> Vec<f64> {
    let from = if least > 0.0 && least.is_finite() { least.log10().floor() } else { 0.0 };
    let to = if max > 0.0 && max.is_finite() { max.log10().ceil().max(from + 1.0) } else { from + 1.0 };
    let factors: &[f64] = if to - from > 2.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = (0..=(to - from) as u32).map(|decade| 10_f64.powf(from + f64::from(decade)));
    let mut marks: Vec<f64> = decades.flat_map(|power| factors.iter().map(move |factor| factor * power)).collect();
    let enough = marks.iter().position(|mark| *mark >= max * 0.999).unwrap_or(marks.len() - 1);
    marks.truncate(enough.max(1) + 1);
    marks
}

/// A mark's label: as few digits as say it.
fn label(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 1.0 && (value - value.round()).abs() < 1e-6 => format!("{value:.0}"),
        _ => format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// A number with as many digits as it deserves.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Plot<'_> {
    /// The plot of `lines`; empty if there is nothing to plot.
    pub fn svg(&self, lines: &[Line]) -> String {
        let points = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        if points().next().is_none() {
            return String::new();
        }
        let x_max = points().map(|(x, _)| *x).fold(f64::MIN_POSITIVE, f64::max);
        let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let least = points().map(|(_, y)| *y).filter(|y| *y > 0.0).fold(highest, f64::min);
        let y_marks = if self.logarithmic { logarithmic_marks(least, highest) } else { even_marks(highest, true) };
        let (y_floor, y_max) = (y_marks[0], *y_marks.last().unwrap_or(&1.0));
        let at_x = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * x / x_max;
        let share = |y: f64| match self.logarithmic {
            true => (y.max(y_floor) / y_floor).log10() / (y_max / y_floor).log10(),
            false => y / y_max,
        };
        let places = legend(lines.iter().map(|line| line.name.as_str()));
        // One line needs no name.
        let rows = if lines.len() > 1 { places.last().map_or(0, |(_, row)| *row) } else { 0 };
        let top = TOP + ROW * f64::from(rows);
        let height = HEIGHT - TOP + top;
        let at_y = |y: f64| height - BOTTOM - (HEIGHT - TOP - BOTTOM) * share(y);
        let mut out = begin(self.title, height);
        for y in y_marks {
            let (at, right) = (at_y(y), WIDTH - RIGHT);
            // Writing to a String cannot fail.
            let _ = write!(out, "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>");
            text(&mut out, LEFT - 6.0, at + 4.0, "end", &label(y));
        }
        let chosen: Vec<(f64, String)> = match self.x_marks {
            [] => even_marks(x_max, false).into_iter().map(|x| (x, label(x))).collect(),
            marks => marks.iter().map(|(x, label)| (*x, (*label).to_owned())).collect(),
        };
        for (x, label) in chosen.iter().filter(|(x, _)| *x <= x_max * 1.01) {
            let (at, bottom) = (at_x(*x), height - BOTTOM);
            let _ = write!(
                out,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{}\" stroke=\"#666\"/>",
                bottom + 4.0
            );
            text(&mut out, at, bottom + 16.0, "middle", label);
        }
        text(&mut out, (LEFT + WIDTH - RIGHT) / 2.0, height - 4.0, "middle", self.x_name);
        let middle = (top + height - BOTTOM) / 2.0;
        let _ = write!(
            out,
            "<text transform=\"translate(14 {middle:.1}) rotate(-90)\" font-size=\"11\" text-anchor=\"middle\">{}</text>",
            escape(self.y_name)
        );
        for ((line, (x, row)), colour) in lines.iter().zip(places).zip(COLOURS.iter().cycle()) {
            let (y, name) = (18.0 + ROW * f64::from(row), escape(&line.name));
            if rows > 0 {
                let _ = write!(
                    out,
                    "<rect x=\"{x:.0}\" y=\"{}\" width=\"10\" height=\"4\" fill=\"{colour}\"/>\
                     <text x=\"{}\" y=\"{y}\" font-size=\"11\">{name}</text>",
                    y - 6.0,
                    x + 14.0
                );
            }
            let points = line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
            let path: Vec<String> = points.map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
            let path = path.join(" ");
            let _ = write!(out, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{path}\"/>");
        }
        out + "</svg>"
    }
}

/// One bar, and the least and most that its value is the middle of.
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub range: [f64; 2],
}

/// Horizontal bars, each with its number, its ratio to the first, and a line from the least to the most.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    const BAR: f64 = 26.0;
    const NAMES: f64 = 210.0;
    const NUMBERS: f64 = 110.0;
    let bars: Vec<_> = bars.iter().filter(|bar| bar.value.is_finite()).collect();
    let Some(first) = bars.first() else { return String::new() };
    let max = bars.iter().map(|bar| bar.value.max(bar.range[1])).fold(0.0, f64::max);
    let width = |value: f64| if max > 0.0 { (WIDTH - NAMES - NUMBERS) * value.max(0.0) / max } else { 0.0 };
    let mut out = begin(title, TOP + BAR * bars.len() as f64 + 8.0);
    for (at, (bar, colour)) in bars.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = TOP + BAR * at as f64;
        let name: String = bar.name.chars().take(NAME_CHARS_MAX).collect();
        let name = if name == bar.name { name } else { format!("{name}…") };
        text(&mut out, NAMES - 8.0, y + 15.0, "end", &name);
        // Writing to a String cannot fail.
        let long = width(bar.value);
        let _ = write!(out, "<rect x=\"{NAMES}\" y=\"{y:.1}\" width=\"{long:.1}\" height=\"20\" fill=\"{colour}\"/>");
        let [from, to] = bar.range.map(|value| NAMES + width(value));
        if bar.range.iter().all(|value| value.is_finite()) && to - from >= 1.0 {
            let (top, bottom, middle) = (y + 6.0, y + 14.0, y + 10.0);
            let _ = write!(
                out,
                "<path d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {top:.1}V{bottom:.1}M{to:.1} {top:.1}V{bottom:.1}\" \
                 stroke=\"#111\" fill=\"none\"/>"
            );
        }
        let ratio = bar.value / first.value;
        let number = match at > 0 && ratio.is_finite() {
            true => format!("{} ({}x)", short(bar.value), short(ratio)),
            false => short(bar.value),
        };
        text(&mut out, (NAMES + long).max(if to.is_finite() { to } else { 0.0 }) + 6.0, y + 15.0, "start", &number);
    }
    out + "</svg>"
}

fn begin(title: &str, height: f64) -> String {
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" fill=\"#111\">");
    let _ = write!(out, "<text x=\"8\" y=\"16\" font-size=\"13\" font-weight=\"600\">{}</text>", escape(title));
    out
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, label: &str) {
    let label = escape(label);
    let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"11\" text-anchor=\"{anchor}\">{label}</text>");
}

/// Where each name of a legend goes: x, and its row below the title.
fn legend<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(f64, u32)> {
    let (mut x, mut row) = (8.0, 1);
    let place = |name: &str| {
        let width = 30.0 + 6.6 * name.chars().count() as f64;
        if x + width > WIDTH && x > 8.0 {
            (x, row) = (8.0, row + 1);
        }
        let at = (x, row);
        x += width;
        at
    };
    names.map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLOT: Plot = Plot { title: "a < b", y_name: "ms", x_name: "s", x_marks: &[], logarithmic: false };

    #[test]
    fn a_line_spans_the_plot_and_names_are_escaped() {
        let line = |name: &str| Line { name: name.into(), points: vec![(0.0, 0.0), (10.0, 100.0)] };
        let svg = PLOT.svg(&[line("x & y")]);
        assert!(svg.contains("points=\"64.0,182.0 616.0,28.0\""), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains(">ms</text>") && !svg.contains("x &amp; y"), "{svg}");
        assert!(PLOT.svg(&[line("x & y"), line("z")]).contains("x &amp; y"), "two lines have names");
    }

    #[test]
    fn nothing_and_nonsense_make_no_coordinates() {
        assert_eq!(PLOT.svg(&[]), "");
        let points = vec![(0.0, f64::NAN), (1.0, f64::INFINITY), (2.0, 0.0)];
        for logarithmic in [false, true] {
            let svg = Plot { logarithmic, ..PLOT }.svg(&[Line { name: "n".into(), points: points.clone() }]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert_eq!(bars("t", &[bar("n", f64::NAN)]), "");
        let zero = bars("t", &[bar("n", 0.0), Bar { range: [f64::NAN, f64::INFINITY], ..bar("m", 0.0) }]);
        assert!(!zero.contains("NaN") && !zero.contains("inf"), "{zero}");
    }

    fn bar(name: &str, value: f64) -> Bar {
        Bar { name: name.into(), value, range: [value; 2] }
    }

    #[test]
    fn the_longest_bar_is_the_largest_value() {
        let svg = bars("t", &[bar("one", 1.0), bar("two", 2.0)]);
        assert!(svg.contains("width=\"160.0\"") && svg.contains("width=\"320.0\""), "{svg}");
        assert!(svg.contains(">1.00</text>") && svg.contains(">2.00 (2.00x)</text>"), "{svg}");
        assert!(!svg.contains("<path"), "all runs were alike");
        let spread = bars("t", &[Bar { range: [1.0, 4.0], ..bar("one", 2.0) }]);
        assert!(spread.contains("M290.0 38.0H530.0"), "{spread}");
    }

    #[test]
    fn a_legend_that_is_too_wide_goes_on_below() {
        assert_eq!(legend(["short", "also short"].into_iter()), [(8.0, 1), (71.0, 1)]);
        let wide = "n".repeat(60);
        assert_eq!(legend([wide.as_str(), wide.as_str()].into_iter()), [(8.0, 1), (8.0, 2)]);
    }

    #[test]
    fn axes_have_round_marks() {
        assert_eq!(even_marks(12.0, false), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(even_marks(11.5, false), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(even_marks(1_400.0, true), [0.0, 500.0, 1_000.0, 1_500.0]);
        assert_eq!(even_marks(0.0, true), [0.0, 1.0]);
        assert_eq!(
            logarithmic_marks(0.3, 4.0).into_iter().map(label).collect::<Vec<_>>().join(" "),
            "0.1 0.2 0.5 1 2 5"
        );
        assert_eq!(
            logarithmic_marks(0.02, 60.0).into_iter().map(label).collect::<Vec<_>>(),
            ["0.01", "0.1", "1", "10", "100"]
        );
        assert_eq!(logarithmic_marks(0.0, 0.0).len(), 2);
    }
}
