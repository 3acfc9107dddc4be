//! Milliseconds of each workload on a logarithmic axis, as SVG.

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::combinators::LogCoord;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::environment::Environment;
use super::{Failure, Row};

const SIZE: (u32, u32) = (960, 480);
const GPU: RGBColor = RGBColor(64, 128, 32);
const REFERENCE: RGBColor = RGBColor(128, 128, 160);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, LogCoord<f64>>>;

/// The chart's text.
pub(crate) fn chart(environment: &Environment, rows: &[Row]) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (low, high) = range(rows);
        let mut axes = ChartBuilder::on(&area)
            .caption("ms, shorter is better", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..rows.len() as f64, (low..high).log_scale())?;
        axes.configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_label_formatter(&|value| format!("{value}"))
            .label_style(("sans-serif", 14))
            .draw()?;
        for (position, row) in rows.iter().enumerate() {
            draw_row(&area, &axes, position as f64, row, low)?;
        }
        draw_legend(&mut axes, environment)?;
        area.present()?;
    }
    Ok(svg)
}

/// Powers of ten around all times.
fn range(rows: &[Row]) -> (f64, f64) {
    let reference = rows.iter().map(|row| row.reference.times.median());
    let machine = rows
        .iter()
        .filter_map(|row| Some(row.machine.as_ref()?.0.times.median()));
    let (low, high) = reference
        .chain(machine)
        .fold((f64::INFINITY, 0.0f64), |(low, high), time| {
            (low.min(time), high.max(time))
        });
    // Half as much again on both sides: the shortest bar can be seen, and the longest has a number above it.
    let power = |exponent: f64| 10f64.powi(exponent as i32);
    (power((low / 1.5).log10().floor()), power((high * 1.5).log10().ceil()))
}

/// The workload's name and its bars, side by side.
fn draw_row(area: &Area, axes: &Axes, position: f64, row: &Row, low: f64) -> Result<(), Failure> {
    let gpu = row.machine.as_ref().map(|(measured, _)| (measured.times.median(), GPU));
    let bars: Vec<(f64, RGBColor)> = gpu
        .into_iter()
        .chain([(row.reference.times.median(), REFERENCE)])
        .collect();
    let width = 0.8 / bars.len() as f64;
    for (i, (time, colour)) in bars.iter().enumerate() {
        let left = position + 0.1 + width * i as f64;
        let corners = [(left, low), (left + 0.95 * width, *time)];
        axes.plotting_area().draw(&Rectangle::new(corners, colour.filled()))?;
        let (x, y) = axes.backend_coord(&(left + 0.475 * width, *time));
        area.draw(&Text::new(short(*time), (x, y - 4), text(13, VPos::Bottom)))?;
    }
    let (x, y) = axes.backend_coord(&(position + 0.5, low));
    area.draw(&Text::new(row.workload.name(), (x, y + 8), text(14, VPos::Top)))?;
    Ok(())
}

fn draw_legend<'a: 'b, 'b>(axes: &mut Axes<'a, 'b>, environment: &Environment) -> Result<(), Failure> {
    let gpu = environment.device.as_ref().map(|device| {
        let name = if device.gpu.is_empty() {
            device.kind
        } else {
            device.gpu.as_str()
        };
        (name.to_owned(), GPU)
    });
    let reference = (format!("reference, {}", environment.cpu), REFERENCE);
    for (name, colour) in gpu.into_iter().chain([reference]) {
        axes.draw_series(std::iter::empty::<Rectangle<(f64, f64)>>())?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 6), (x + 16, y + 6)], colour.filled()));
    }
    axes.configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}

fn text(size: u32, vertical: VPos) -> TextStyle<'static> {
    ("sans-serif", size)
        .into_text_style(&SIZE)
        .pos(Pos::new(HPos::Center, vertical))
}

/// Three figures.
fn short(value: f64) -> String {
    let figures = (2.0 - value.log10().floor()).clamp(0.0, 3.0);
    format!("{value:.*}", figures as usize)
}
