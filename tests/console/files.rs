//! The console's files, without a browser: what they must not contain.

use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/console");

/// What parses text as HTML or as a program, or reaches beyond the admin listener.
const FORBIDDEN: [&str; 14] = [
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "DOMParser",
    "createContextualFragment",
    "eval(",
    "new Function",
    "javascript:",
    "https://",
    "http://",
    "style=",
    "onclick=",
    "@import",
];

#[test]
fn no_file_parses_data_or_reaches_elsewhere() {
    let table = std::fs::read_to_string(format!("{FOLDER}.rs")).unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        // The names of XML's own dialects are no addresses.
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{name} contains {word:?}");
        }
        assert!(
            text.lines().count() <= 300,
            "{name} has more than 300 lines"
        );
        assert!(
            table.contains(&format!("console/{name}\"")),
            "{name} is not in the table of src/admin/console.rs"
        );
        if name.ends_with(".js") {
            assert!(
                text.starts_with("// "),
                "{name} does not say what it is for"
            );
        }
        files += 1;
    }
    assert!(
        files > 30,
        "{files} files in {}",
        Path::new(FOLDER).display()
    );
}

#[test]
fn the_page_has_no_script_or_style_of_its_own() {
    let page = std::fs::read_to_string(format!("{FOLDER}/index.html")).unwrap();
    for (at, _) in page.match_indices("<script") {
        assert!(
            page[at..]
                .split('>')
                .next()
                .unwrap()
                .contains("src=\"/console/"),
            "an inline script"
        );
    }
    assert!(!page.contains("<style"), "an inline style sheet");
}
