//! A page for man(1).

use std::io;

use super::super::teach::{self, Lesson};

/// What clap_mangen puts before each part.
const QUOTE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The page of the command called `path`.
pub(super) fn page(command: &clap::Command, path: &str) -> io::Result<String> {
    let name = format!("portcullis {path}").trim_end().replace(' ', "-");
    // Examples and exit codes have sections of their own, with their lines kept.
    let plain = command.clone().after_long_help("").after_help("");
    let man = clap_mangen::Man::new(plain)
        .title(name.to_uppercase())
        .source(format!("portcullis {}", env!("CARGO_PKG_VERSION")))
        .manual("Portcullis");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let page = String::from_utf8_lossy(&page);
    // Every part defines the same quote again; once is enough.
    let mut page = format!("{QUOTE}{}", page.replace(QUOTE, ""));
    if let Some(lesson) = teach::lesson(path) {
        page.push_str(&taught(lesson));
    }
    page.push_str(".SH \"SEE ALSO\"\n");
    let above = match name.rsplit_once('-') {
        Some((above, _)) if path.contains(' ') => above.to_owned(),
        _ => "portcullis".to_owned(),
    };
    page.push_str(&format!(".BR {} (1)\n", escaped(&above)));
    Ok(page)
}

fn taught(lesson: &Lesson) -> String {
    let mut text = String::new();
    if !lesson.notes.is_empty() {
        text.push_str(".SH NOTES\n");
        for line in lesson.flowing_notes().lines() {
            // A line that begins with a blank is a break of its own, and keeps its blanks.
            text.push_str(&format!("{}\n", escaped(line)));
        }
    }
    text.push_str(".SH EXAMPLES\n");
    for (what, command) in lesson.examples {
        text.push_str(&format!(
            "{}:\n.PP\n.RS 4\n{}.RE\n.PP\n",
            escaped(what),
            kept(command)
        ));
    }
    text.push_str(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in lesson.exits {
        text.push_str(&format!(".TP\n.B {code}\n{}\n", escaped(meaning)));
    }
    text
}

/// Lines as they are.
fn kept(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(escaped).collect();
    format!(".nf\n{}\n.fi\n", lines.join("\n"))
}

/// No character of the text is one of roff's own.
fn escaped(line: &str) -> String {
    let text = line
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('~', "\\(ti")
        .replace('^', "\\(ha")
        .replace('`', "\\(ga");
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}
