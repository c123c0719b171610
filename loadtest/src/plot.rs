//! Line plots and bars as SVG text, without scripts or anything from outside. Numbers only ever come from measurements;
//! names are escaped.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 34.0;
/// Height of a row of the legend.
const ROW: f64 = 14.0;
const COLOURS: [&str; 6] = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#475569"];

/// One line of a plot.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// What a plot shows, and how.
pub struct Plot<'a> {
    pub title: &'a str,
    pub x_name: &'a str,
    /// Places and labels on the x axis; chosen if there are none.
    pub x_marks: &'a [(f64, &'a str)],
    /// The y axis counts powers of ten.
    pub logarithmic: bool,
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A round number of at least `value`: 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value.is_nan() || value <= 0.0 || value.is_infinite() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|round| *round >= value).unwrap_or(value)
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
        let y_max = round_up(points().map(|(_, y)| *y).fold(0.0, f64::max));
        let least = points().map(|(_, y)| *y).filter(|y| *y > 0.0).fold(y_max, f64::min);
        let y_floor = 10_f64.powf(least.log10().floor()).min(y_max / 10.0);
        let at_x = |x: f64| LEFT + (WIDTH - LEFT - RIGHT) * x / x_max;
        let share = |y: f64| match self.logarithmic {
            true => (y.max(y_floor) / y_floor).log10() / (y_max / y_floor).log10(),
            false => y / y_max,
        };
        let places = legend(lines.iter().map(|line| line.name.as_str()));
        let top = TOP + ROW * f64::from(places.last().map_or(0, |(_, row)| *row));
        let height = HEIGHT - TOP + top;
        let at_y = |y: f64| height - BOTTOM - (HEIGHT - TOP - BOTTOM) * share(y);
        let mut out = begin(self.title, height);
        let y_marks: Vec<f64> = match self.logarithmic {
            true => std::iter::successors(Some(y_floor), |y| Some(y * 10.0)).take_while(|y| *y <= y_max).collect(),
            false => (0..=4).map(|step| y_max * f64::from(step) / 4.0).collect(),
        };
        for y in y_marks {
            let (at, right) = (at_y(y), WIDTH - RIGHT);
            // Writing to a String cannot fail.
            let _ = write!(out, "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>");
            text(&mut out, LEFT - 6.0, at + 4.0, "end", &short(y));
        }
        let chosen: Vec<(f64, String)> = match self.x_marks {
            [] => (0..=5).map(|step| x_max * f64::from(step) / 5.0).map(|x| (x, short(x))).collect(),
            marks => marks.iter().map(|(x, label)| (*x, (*label).to_owned())).collect(),
        };
        for (x, label) in chosen.iter().filter(|(x, _)| *x <= x_max * 1.001) {
            text(&mut out, at_x(*x), height - BOTTOM + 14.0, "middle", label);
        }
        text(&mut out, (LEFT + WIDTH) / 2.0, height - 4.0, "middle", self.x_name);
        for ((line, (x, row)), colour) in lines.iter().zip(places).zip(COLOURS.iter().cycle()) {
            let (y, name) = (16.0 + ROW * f64::from(row), escape(&line.name));
            let _ = write!(out, "<text x=\"{x:.0}\" y=\"{y}\" font-size=\"11\" fill=\"{colour}\">{name}</text>");
            let points = line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
            let path: Vec<String> = points.map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
            let path = path.join(" ");
            let _ = write!(out, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{path}\"/>");
        }
        out + "</svg>"
    }
}

/// Horizontal bars, one per name, each with its number.
pub fn bars(title: &str, values: &[(String, f64)]) -> String {
    const BAR: f64 = 26.0;
    const NAMES: f64 = 210.0;
    let values: Vec<_> = values.iter().filter(|(_, value)| value.is_finite()).collect();
    let max = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if values.is_empty() {
        return String::new();
    }
    let mut out = begin(title, TOP + BAR * values.len() as f64 + 8.0);
    for (at, ((name, value), colour)) in values.into_iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = TOP + BAR * at as f64;
        let width = if max > 0.0 { (WIDTH - NAMES - 80.0) * value.max(0.0) / max } else { 0.0 };
        text(&mut out, NAMES - 8.0, y + 15.0, "end", name);
        let _ = write!(out, "<rect x=\"{NAMES}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"20\" fill=\"{colour}\"/>");
        text(&mut out, NAMES + width + 6.0, y + 15.0, "start", &short(*value));
    }
    out + "</svg>"
}

fn begin(title: &str, height: f64) -> String {
    let mut out =
        format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\">");
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
        let width = 14.0 + 6.6 * name.chars().count() as f64;
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

    const PLOT: Plot = Plot { title: "a < b", x_name: "s", x_marks: &[], logarithmic: false };

    #[test]
    fn a_line_spans_the_plot_and_names_are_escaped() {
        let line = Line { name: "x & y".into(), points: vec![(0.0, 0.0), (10.0, 100.0)] };
        let svg = PLOT.svg(&[line]);
        assert!(svg.contains("points=\"60.0,200.0 628.0,42.0\""), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y"));
    }

    #[test]
    fn nothing_and_nonsense_make_no_coordinates() {
        assert_eq!(PLOT.svg(&[]), "");
        let points = vec![(0.0, f64::NAN), (1.0, f64::INFINITY), (2.0, 0.0)];
        for logarithmic in [false, true] {
            let svg = Plot { logarithmic, ..PLOT }.svg(&[Line { name: "n".into(), points: points.clone() }]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert_eq!(bars("t", &[("n".into(), f64::NAN)]), "");
    }

    #[test]
    fn the_longest_bar_is_the_largest_value() {
        let svg = bars("t", &[("one".into(), 1.0), ("two".into(), 2.0)]);
        assert!(svg.contains("width=\"175.0\"") && svg.contains("width=\"350.0\""), "{svg}");
    }

    #[test]
    fn a_legend_that_is_too_wide_goes_on_below() {
        assert_eq!(legend(["short", "also short"].into_iter()), [(8.0, 1), (55.0, 1)]);
        let wide = "n".repeat(60);
        assert_eq!(legend([wide.as_str(), wide.as_str()].into_iter()), [(8.0, 1), (8.0, 2)]);
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.3, 1.0, 42.0, 600.0, 0.0].map(round_up), [0.5, 1.0, 50.0, 1_000.0, 1.0]);
    }
}
