//! The figures as a whole: structure, edge cases, files.

use proptest::prelude::*;

use super::font::Font;
use super::*;

fn comparison() -> Figure {
    let x: Vec<f64> = (1..=50).map(|i| f64::from(i) * 100.0).collect();
    let curve = |rate: f64| -> Vec<f64> { x.iter().map(|x| 200.0 - 180.0 * (-x / rate).exp()).collect() };
    let moved = |y: &[f64], by: f64| -> Vec<f64> { y.iter().map(|y| y + by).collect() };
    let series = ["RT-PG", "GPOMDP"].into_iter().zip([500.0, 1500.0]).map(|(label, rate)| {
        let y = curve(rate);
        Series::line(label, x.clone(), y.clone()).with_band(moved(&y, -5.0), moved(&y, 5.0))
    });
    Figure {
        title: "CartPole, σ² = 0.3 & ω < 9".into(),
        x_label: "fresh trajectories".into(),
        y_label: "return".into(),
        series: series.collect(),
        band_label: "95% interval".into(),
        reference_lines: vec![ReferenceLine::new("threshold", 195.0)],
        ..Figure::default()
    }
}

fn bars() -> ThresholdBars {
    let censored = f64::INFINITY;
    ThresholdBars {
        title: "Trajectories to a return of 195".into(),
        x_label: "fresh trajectories".into(),
        bars: vec![
            Bar {
                label: "RT-PG".into(),
                value: 2000.0,
                interval: Some((1500.0, 2500.0)),
                runs: vec![1900.0, 2000.0, 2100.0],
            },
            Bar {
                label: "GPOMDP".into(),
                value: 9000.0,
                interval: Some((8000.0, censored)),
                runs: vec![8000.0, 9000.0, censored],
            },
            Bar { label: "MIW-PG".into(), value: censored, interval: None, runs: vec![censored; 3] },
        ],
        interval_label: "95% interval".into(),
        budget: Some(10_000.0),
    }
}

fn count(svg: &str, text: &str) -> usize {
    svg.matches(text).count()
}

/// Decoded width, height and red-green-blue pixels.
fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels)
}

#[test]
fn svg_shows_every_label_and_series() {
    let svg = comparison().draw().unwrap().to_svg();
    for text in ["fresh trajectories", "return", "RT-PG", "GPOMDP", "95% interval", "threshold", "5k", "200"]
    {
        assert_eq!(count(&svg, &format!(">{text}</text>")), 1, "{text}");
    }
    assert!(svg.contains("<title>CartPole, σ² = 0.3 &amp; ω &lt; 9</title>"));
    // Two bands and the legend's key of a band.
    assert_eq!(count(&svg, "<polygon"), 3);
    // The second series is dashed, in its curve and in the legend.
    assert_eq!(count(&svg, "stroke-dasharray=\"7 2.5\""), 2);
}

#[test]
fn equal_figures_give_equal_bytes() {
    let (first, second) = (comparison().draw().unwrap(), comparison().draw().unwrap());
    assert_eq!(first.to_svg(), second.to_svg());
    assert_eq!(first.to_png().unwrap(), second.to_png().unwrap());
}

#[test]
fn png_has_the_size_and_the_colours_of_the_svg() {
    let picture = comparison().draw().unwrap();
    let (width, height, pixels) = decode(&picture.to_png().unwrap());
    assert!(picture.to_svg().contains("width=\"520\" height=\"340\""));
    assert_eq!((width, height), (3 * 520, 3 * 340));
    let has = |colour: [u8; 3]| pixels.chunks(3).any(|pixel| pixel == colour);
    for index in 0..2 {
        let picture::Colour(red, green, blue) = palette::colour(index);
        assert!(has([red, green, blue]), "series {index}");
    }
    assert_eq!(pixels[..3], [255, 255, 255]);
}

#[test]
fn raw_data_share_the_colour_of_their_mean() {
    let x: Vec<f64> = (1..=100).map(f64::from).collect();
    let svg = learning_curve("run", &x, &x, 10).draw().unwrap().to_svg();
    assert_eq!(count(&svg, "stroke=\"#0072B2\""), 4, "two lines and their keys");
    assert_eq!(count(&svg, "stroke-opacity=\"0.35\""), 2);
    let short = learning_curve("run", &x[..5], &x[..5], 10);
    assert_eq!(short.series.len(), 1);
}

#[test]
fn long_curves_give_small_files() {
    let x: Vec<f64> = (0..100_000).map(f64::from).collect();
    let y = x.iter().map(|x| (x * 0.7).sin()).collect();
    let figure = Figure { series: vec![Series::line("long", x, y)], ..Figure::default() };
    assert!(figure.draw().unwrap().to_svg().len() < 100_000);
}

#[test]
fn censored_values_are_marked() {
    let svg = bars().draw().unwrap().to_svg();
    for text in ["RT-PG", "2k", "9k (2/3)", "&gt; 10k (0/3)", "not reached", "budget"] {
        assert_eq!(count(&svg, &format!(">{text}</text>")), 1 + usize::from(text == "2k"), "{text}");
    }
    // Four censored runs and their key: triangles; the whisker's open end is a filled one.
    assert_eq!(count(&svg, "fill=\"#FFFFFF\" stroke=\"#262626\""), 5);
    assert_eq!(count(&svg, "fill=\"#262626\" stroke=\"#262626\""), 1);
    assert_eq!(count(&svg, "<circle"), 6, "five runs and their key");
}

#[test]
fn bars_without_budget_or_without_any_value() {
    let without_budget = ThresholdBars { budget: None, ..bars() };
    assert!(without_budget.draw().unwrap().to_svg().contains("GPOMDP"));
    let unknown = Bar { label: "failed".into(), value: f64::NAN, ..Bar::default() };
    let known = Bar { label: "done".into(), value: 3.0, ..Bar::default() };
    let figure = ThresholdBars { bars: vec![unknown.clone(), known], ..ThresholdBars::default() };
    assert!(figure.draw().unwrap().to_svg().contains(">–</text>"));
    let figure = ThresholdBars { bars: vec![unknown], ..ThresholdBars::default() };
    assert!(matches!(figure.draw(), Err(FigureError::NothingFinite { .. })));
    assert!(matches!(ThresholdBars::default().draw(), Err(FigureError::Empty { .. })));
}

#[test]
fn too_many_bars_for_pixels_are_refused() {
    let bar = Bar { label: "bar".into(), value: 1.0, ..Bar::default() };
    let figure = ThresholdBars { bars: vec![bar; 2000], ..ThresholdBars::default() };
    let picture = figure.draw().unwrap();
    assert!(matches!(picture.to_png(), Err(FigureError::TooLarge { .. })));
    assert_eq!(count(&picture.to_svg(), ">bar</text>"), 2000);
}

#[test]
fn wrong_data_are_errors_that_name_the_series() {
    let message = |figure: Figure| figure.draw().unwrap_err().to_string();
    let figure = |series| Figure { title: "study".into(), series, ..Figure::default() };
    assert_eq!(
        message(figure(vec![])),
        "figure \"study\" has nothing to show: expected at least one series or bar"
    );
    let nothing = "figure \"study\" has no finite value to show";
    assert_eq!(message(figure(vec![Series::line("a", vec![], vec![])])), nothing);
    assert_eq!(message(figure(vec![Series::line("a", vec![1.0], vec![f64::NAN])])), nothing);
    let short = Series::line("a", vec![1.0, 2.0], vec![1.0, 2.0]).with_band(vec![0.0], vec![3.0, 3.0]);
    assert_eq!(message(figure(vec![short])), "series \"a\": lower has 1 values, expected 2 as in x");
    let logarithmic =
        Figure { x_scale: Scale::Log2, ..figure(vec![Series::points("a", vec![0.0], vec![1.0])]) };
    assert!(message(logarithmic).starts_with("series \"a\": x = 0 has no place"));
}

#[test]
fn points_move_aside_and_lines_do_not() {
    let points = |label: &str| Series::points(label, vec![2.0, 4.0], vec![1.0, 2.0]);
    let figure = Figure { x_scale: Scale::Log2, series: vec![points("a"), points("b")], ..Figure::default() };
    let svg = figure.draw().unwrap().to_svg();
    let centres = svg.lines().filter(|line| line.starts_with("<circle")).count();
    assert_eq!(centres, 3, "the two discs of the first series and their key");
    assert_eq!(count(&svg, "<polygon"), 3, "the two squares of the second series and their key");
}

#[test]
fn gaps_single_points_and_constants_are_drawn_in_both_formats() {
    let (gap, huge) = (f64::NAN, f64::MAX);
    let series = vec![
        Series::line("single", vec![2.0], vec![3.0]),
        Series::line("gaps", vec![1.0, 2.0, 3.0, gap, 5.0], vec![3.0, gap, 3.0, 3.0, 3.0]),
        Series::line("none", vec![], vec![]),
        Series::points("point", vec![4.0], vec![3.0]).with_band(vec![gap], vec![4.0]),
    ];
    let constant = Figure { series, ..Figure::default() };
    let wide = Series::line("wide", vec![-huge, huge], vec![huge, -huge]);
    let wide = Figure { series: vec![wide], ..Figure::default() };
    for (figure, circles) in [(constant, 4), (wide, 0)] {
        let picture = figure.draw().unwrap();
        assert_eq!(count(&picture.to_svg(), "<circle"), circles);
        assert_eq!(decode(&picture.to_png().unwrap()).0, 1560);
    }
}

#[test]
fn the_font_has_the_signs_of_our_labels() {
    let font = Font::embedded().unwrap();
    let missing = font.width("\u{10FFFF}", 12.0);
    assert!(missing > 0.0);
    for sign in "aZ09²ωαλσθ−→…≥≤·×–é".chars() {
        assert!(font.has(sign), "{sign}");
    }
    assert!(!font.has('\u{10FFFF}'));
    assert_eq!(font.fit("short", 12.0, 100.0), "short");
    let fitted = font.fit("a label that is far too long", 12.0, 60.0);
    assert!(fitted.ends_with('…') && font.width(&fitted, 12.0) <= 60.0, "{fitted}");
}

#[test]
fn files_are_replaced_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curve.svg");
    fs_err::write(&path, "old").unwrap();
    comparison().write_svg(&path).unwrap();
    assert_eq!(fs_err::read_to_string(&path).unwrap(), comparison().draw().unwrap().to_svg());
    bars().write_png(folder.path().join("bars.png")).unwrap();
    let names = fs_err::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["bars.png", "curve.svg"], "no temporary file is left");
}

#[test]
fn a_failed_write_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("curve.svg");
    let error = comparison().write_svg(&path).unwrap_err();
    assert!(error.to_string().contains("curve.svg"), "{error}");
    // A folder in the file's place: the rename fails, and the temporary file goes.
    let taken = folder.path().join("taken.svg");
    fs_err::create_dir_all(taken.join("inside")).unwrap();
    assert!(comparison().write_svg(&taken).is_err());
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
}

/// Values among which the special ones are frequent.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e4..1e4,
        1 => prop::sample::select(vec![0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX,
            f64::MIN, f64::MIN_POSITIVE, 5e-324, 1e300, -1e-300, 200.0]),
    ]
}

fn series() -> impl Strategy<Value = Series> {
    let style = prop::sample::select(vec![SeriesStyle::Line, SeriesStyle::Raw, SeriesStyle::Points]);
    let columns = prop::collection::vec((value(), value(), value(), value()), 0..12);
    ("\\PC{0,40}", style, columns, any::<bool>()).prop_map(|(label, style, columns, banded)| {
        let column = |pick: fn(&(f64, f64, f64, f64)) -> f64| columns.iter().map(pick).collect::<Vec<f64>>();
        let series = Series { style, ..Series::line(label, column(|c| c.0), column(|c| c.1)) };
        if banded { series.with_band(column(|c| c.2), column(|c| c.3)) } else { series }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_figure_is_drawn_or_refused(
        series in prop::collection::vec(series(), 0..4),
        title in "\\PC{0,120}",
        references in prop::collection::vec(value(), 0..3),
        log in any::<bool>(),
    ) {
        let figure = Figure {
            x_scale: if log { Scale::Log2 } else { Scale::Linear },
            x_label: title.clone(), y_label: title.clone(), title,
            series,
            band_label: "band".into(),
            reference_lines: references.into_iter().map(|y| ReferenceLine::new("line", y)).collect(),
        };
        if let Ok(picture) = figure.draw() {
            for shape in &picture.shapes {
                if let picture::Shape::Path { points, .. } = shape {
                    for point in points {
                        prop_assert!((-10.0..=picture.width + 10.0).contains(&point.x), "{shape:?}");
                        prop_assert!((-10.0..=picture.height + 10.0).contains(&point.y), "{shape:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn any_bars_are_drawn_or_refused(
        values in prop::collection::vec((value(), value(), value(), prop::collection::vec(value(), 0..4)), 0..6),
        budget in prop::option::of(value()),
    ) {
        let bars = values.into_iter().map(|(value, lower, upper, runs)| {
            Bar { label: "bar".into(), value, interval: Some((lower, upper)), runs }
        });
        let figure = ThresholdBars { bars: bars.collect(), budget, ..ThresholdBars::default() };
        if let Ok(picture) = figure.draw() {
            let svg = picture.to_svg();
            prop_assert!(!svg.contains("NaN,") && !svg.contains("inf,"), "{svg}");
        }
    }
}
