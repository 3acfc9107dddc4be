//! What a notebook shows: text and tables as HTML, and wrong values as a picture.

use std::fmt::Write;

use binned_experts_check::Tensor;

/// The most cells of a picture along either axis.
const MOST_CELLS: usize = 64;
/// Pixels of a cell along either axis.
const CELL: usize = 8;

/// The errors of an output `[B·S,H]` as shares of their bounds: 0 where a value is as expected, infinite where one of the
/// two is not finite or the bound is 0.
#[derive(Clone)]
pub(crate) struct Errors {
    shares: Vec<f64>,
    tokens: usize,
    hidden: usize,
}

impl Errors {
    /// Of an output beside the right one and its bound; none where it has another shape, or nothing is in it.
    pub(crate) fn of(output: &Tensor, (expected, bound): &(Tensor, Tensor)) -> Option<Errors> {
        let &[batch, sequence, hidden] = expected.shape() else {
            return None;
        };
        if output.shape() != expected.shape() || output.element().is_none() || batch * sequence * hidden == 0 {
            return None;
        }
        let (found, expected, bound) = (output.to_f64(), expected.to_f64(), bound.to_f64());
        let values = found.into_iter().zip(expected).zip(bound);
        Some(Errors {
            shares: values
                .map(|((found, expected), bound)| share(found, expected, bound))
                .collect(),
            tokens: batch * sequence,
            hidden,
        })
    }

    /// A picture, with tokens down and columns across. A cell of several values shows the worst of them.
    pub(crate) fn svg(&self) -> String {
        let (rows, columns) = (self.tokens.min(MOST_CELLS), self.hidden.min(MOST_CELLS));
        let (width, height) = (columns * CELL, rows * CELL);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             style=\"border:1px solid #888\">"
        );
        for row in 0..rows {
            for column in 0..columns {
                let tokens = part(row, rows, self.tokens);
                let hidden = part(column, columns, self.hidden);
                let worst = tokens
                    .clone()
                    .flat_map(|token| hidden.clone().map(move |at| token * self.hidden + at))
                    .fold(0.0, |worst, at| f64::max(worst, self.shares[at]));
                let (x, y) = (column * CELL, row * CELL);
                let place = format!("token {}, column {}", range(&tokens), range(&hidden));
                let _ = write!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{}\">\
                     <title>{place}: {worst:.3} × the bound</title></rect>",
                    colour(worst)
                );
            }
        }
        svg + "</svg>"
    }
}

fn share(found: f64, expected: f64, bound: f64) -> f64 {
    if found == expected || (found.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let share = (found - expected).abs() / bound;
    if share.is_nan() { f64::INFINITY } else { share }
}

/// The values of a cell out of `cells` along an axis.
fn part(cell: usize, cells: usize, size: usize) -> std::ops::Range<usize> {
    cell * size / cells..(cell + 1) * size / cells
}

fn range(values: &std::ops::Range<usize>) -> String {
    match values.end - values.start {
        1 => values.start.to_string(),
        _ => format!("{} to {}", values.start, values.end - 1),
    }
}

/// Grey within the bound; from orange to dark red up to 1,000 times the bound; black beyond.
fn colour(share: f64) -> String {
    if share <= 1.0 {
        let grey = 255.0 - 60.0 * share;
        return format!("rgb({grey:.0},{grey:.0},{grey:.0})");
    }
    let decades = share.log10();
    if decades > 3.0 {
        return "black".to_owned();
    }
    let depth = decades / 3.0;
    format!("rgb({:.0},{:.0},0)", 255.0 - 115.0 * depth, 150.0 * (1.0 - depth))
}

/// Text as it stands.
pub(crate) fn preformatted(text: &str) -> String {
    format!("<pre>{}</pre>", escaped(text))
}

/// A table with a line of names above one of values.
pub(crate) fn table(cells: &[(&str, String)]) -> String {
    let line = |tag: &str, texts: Vec<&str>| {
        let cells: String = texts
            .iter()
            .map(|text| format!("<{tag}>{}</{tag}>", escaped(text)))
            .collect();
        format!("<tr>{cells}</tr>")
    };
    let names = line("th", cells.iter().map(|(name, _)| *name).collect());
    let values = line("td", cells.iter().map(|(_, value)| value.as_str()).collect());
    format!("<table>{names}{values}</table>")
}

/// Text that is shown when its heading is clicked.
pub(crate) fn folded(heading: &str, text: &str) -> String {
    format!(
        "<details><summary>{}</summary>{}</details>",
        escaped(heading),
        preformatted(text)
    )
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
