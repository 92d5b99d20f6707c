//! A run as a page: one file with everything in it, that asks the network for nothing.

use crate::recording::Recording;
use crate::trace::Digest;

const PAGE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const DATA: &str = include_str!("data.js");
const SCRIPT: &str = include_str!("report.js");

/// The whole page.
pub fn page(recording: &Recording) -> String {
    // Maps have text for keys and no number is infinite, so nothing can fail to become JSON.
    let json = serde_json::to_string(recording).unwrap_or_else(|error| format!("{{\"verdict\":\"{error}\"}}"));
    let data = inert(&json);
    let mut digest = Digest::default();
    digest.bytes(data.as_bytes());
    // Only what carries the nonce is run or applied; the page's policy forbids everything else.
    fill(
        PAGE,
        &[
            ("{{nonce}}", &digest.to_string()),
            ("{{style}}", STYLE),
            ("{{script}}", &format!("{DATA}\n{SCRIPT}")),
            ("{{data}}", &data),
        ],
    )
}

/// JSON in which no character can end or open a tag: an id may be `</script>`.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Replaces each mark. What was filled in is not looked at again, so that text like a mark stays text.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut page = String::new();
    let mut rest = template;
    while let Some((at, (mark, value))) =
        values.iter().filter_map(|entry| Some((rest.find(entry.0)?, entry))).min_by_key(|(at, _)| *at)
    {
        page.push_str(&rest[..at]);
        page.push_str(value);
        rest = &rest[at + mark.len()..];
    }
    page + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::recording;

    #[test]
    fn text_of_users_can_neither_end_the_data_nor_become_a_tag() {
        let mut recording = recording();
        recording.children[0] = "</script><script>alert(1)</script>{{style}}<!--".into();
        let page = page(&recording);
        assert!(!page.contains("alert(1)</script>"));
        let tags = page.matches("</script>").count();
        assert_eq!(tags, 2, "the data and the program");
        assert!(page.contains(r"\u003c/script\u003e\u003cscript\u003ealert(1)"));
    }

    #[test]
    fn a_page_asks_the_network_for_nothing_and_runs_only_its_own_program() {
        let page = page(&recording());
        assert!(page.contains("default-src 'none'"));
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
