//! Tables and figures of a study of the kind `training`.

mod curves;
mod figures;
mod tables;

use std::fmt::Write;

pub use curves::{Curve, curves};

use super::{Plan, StudyError, StudyFolder};
use crate::random::{Purpose, Streams};

/// Writes `results.csv`, `summary.csv`, `summary.md` and all figures from the runs that are there.
///
/// Returns the Markdown table. Without a finished run there is nothing to write, and the table is empty.
///
/// # Errors
/// What the file system refuses, or curves that cannot be drawn.
pub fn report(plan: &Plan, folder: &StudyFolder) -> Result<String, StudyError> {
    let (curves, without) = curves(plan, folder)?;
    if curves.is_empty() && without > 0 {
        return Ok(format!("No run made an update: {without} ended without one.\n"));
    }
    if curves.is_empty() {
        return Ok(String::new());
    }
    // Fixed, so that equal results give equal intervals.
    let mut generator = Streams::new(plan.definition.seed).stream(Purpose::Study, u32::MAX, 0, 0);
    let rows = tables::summarize(plan, &curves, &mut generator)?;
    folder.write("results.csv", &tables::results(plan, &curves)?)?;
    // Of its own, so that what stands only in this file changes no interval of the table.
    let mut others = Streams::new(plan.definition.seed).stream(Purpose::Study, u32::MAX, 1, 0);
    folder.write("summary.csv", &tables::summary(&plan.definition, &rows, &mut others)?)?;
    let mut markdown = tables::markdown(plan, &rows);
    if without > 0 {
        let _ = writeln!(
            markdown,
            "\n{without} finished runs made no update, have no return, and are not counted."
        );
    }
    folder.write("summary.md", markdown.as_bytes())?;
    figures::draw(plan, folder, &curves, &rows, &mut generator)?;
    Ok(markdown)
}
