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
    let man = clap_mangen::Man::new(plain);
    let mut page = Vec::new();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let page = String::from_utf8_lossy(&page);
    // Every part defines the same quote again; once is enough.
    let mut page = format!("{QUOTE}{}{}", title(&name), page.replace(QUOTE, ""));
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

/// Name, section, no date, source and manual: clap_mangen would leave the date out, and what comes
/// behind would move into its place.
fn title(name: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH {} 1 \"\" \"portcullis {version}\" \"Portcullis Manual\"\n",
        escaped(&name.to_uppercase())
    )
}

fn taught(lesson: &Lesson) -> String {
    let mut text = String::new();
    if !lesson.notes.is_empty() {
        text.push_str(".SH NOTES\n");
        for line in lesson.flowing_notes().lines() {
            if line.is_empty() {
                text.push_str(".PP\n");
            } else if line.starts_with(' ') {
                text.push_str(&kept(line));
            } else {
                text.push_str(&format!("{}\n", escaped(line)));
            }
        }
    }
    text.push_str(".SH EXAMPLES\n");
    for (number, (what, command)) in lesson.examples.iter().enumerate() {
        let paragraph = if number == 0 { "" } else { ".PP\n" };
        let command = kept(command);
        text.push_str(&format!(
            "{paragraph}{}:\n.PP\n.RS 4\n{command}.RE\n",
            escaped(what)
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
