use proptest::prelude::*;

use super::*;

/// Lines that are too wide, besides those of one word.
fn too_wide(text: &str, width: usize) -> Vec<&str> {
    text.lines().filter(|line| line.width() > width && line.split_whitespace().count() > 1).collect()
}

fn rows<const N: usize>(columns: [Column; N], rows: &[[&str; N]]) -> Table {
    let mut table = Table::new(columns);
    for cells in rows {
        table.row(cells.map(str::to_owned));
    }
    table
}

#[test]
fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
    let columns = [plain("NAME"), plain("REGION"), sentence("REASON")];
    let table = rows(columns, &[["eu", "europe", ""], ["asia-long", "アジア", "größer"]]);
    let expected = "NAME       REGION  REASON\neu         europe  -\nasia-long  アジア  größer\n";
    assert_eq!(table.render(Layout::Fit(80)), expected);
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let table = rows([plain("A"), note("B")], &[["x\u{1b}[2Jy\nz", "\u{202e}a"]]);
    assert_eq!(table.render(Layout::Fit(80)), "A\nx [2Jy z\n    b: a\n");
}

#[test]
fn fields_without_a_value_are_left_out_and_long_ones_wrap_under_their_column() {
    let words = "lorem ipsum ".repeat(5);
    let table = Table::of_fields([("id", "a".to_owned()), ("message", String::new()), ("meta id", words)]);
    let expected =
        "id:       a\nmeta id:  lorem ipsum lorem ipsum lorem\n          ipsum lorem ipsum lorem ipsum\n";
    assert_eq!(table.render(Layout::Fit(42)), expected);
}

#[test]
fn wide_shows_every_column_in_one_line_a_row() {
    let columns = [plain("NAME"), wide("WEIGHT"), sentence("REASON"), note("REMEDY")];
    let long = "lorem ipsum ".repeat(20);
    let table = rows(columns, &[["eu", "50", "", ""], ["us", "1", &long, "call"]]);
    assert_eq!(table.render(Layout::Fit(80)).lines().next(), Some("NAME  REASON"));
    let text = table.render(Layout::Wide);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.starts_with("NAME  WEIGHT  REASON") && text.ends_with("ipsum  call\n"), "{text}");
}

#[test]
fn a_note_stands_below_its_row_where_it_has_a_text() {
    let columns = [plain("CHECK"), plain("OUTCOME"), note("REMEDY")];
    let table = rows(columns, &[["login", "OK", ""], ["clock", "FAILED", "set the clock"]]);
    let expected = "CHECK  OUTCOME\nlogin  OK\nclock  FAILED\n    remedy: set the clock\n";
    assert_eq!(table.render(Layout::Fit(80)), expected);
}

#[test]
fn a_sentence_without_enough_space_beside_its_row_stands_below() {
    let (id, why) = ("i".repeat(36), "it is full and cordoned, and something else is wrong");
    let table =
        rows([plain("ID"), plain("PHASE"), sentence("WHY")], &[[&id, "CREATING", why], ["b", "X", ""]]);
    let text = table.render(Layout::Fit(80));
    assert!(text.contains(&format!("{id}  CREATING  it is full and cordoned, and")), "{text}");
    let text = table.render(Layout::Fit(60));
    assert!(text.contains(&format!("{id}  CREATING\n    why: it is full")), "{text}");
    assert!(text.ends_with(&format!("b{}X\n", " ".repeat(37))), "{text}");
}

#[test]
fn a_sentence_with_a_word_that_does_not_fit_stands_below_its_row_alone() {
    let url = format!("see https://{}", "u".repeat(50));
    let table = rows([plain("CHECK"), sentence("DETAIL")], &[["login", "is good"], ["url", &url]]);
    let expected =
        format!("CHECK  DETAIL\nlogin  is good\nurl\n    detail: see\n    https://{}\n", "u".repeat(50));
    assert_eq!(table.render(Layout::Fit(60)), expected);
}

#[test]
fn a_column_takes_what_an_id_that_sticks_out_leaves() {
    let columns = [plain("NAME"), plain("INTENT"), plain("REGION")];
    let table = rows(columns, &[[&"n".repeat(39), "cordoned, in maintenance", "europe"]]);
    assert!(table.render(Layout::Fit(40)).contains("cordoned, in maintenance  europe"));
}

#[test]
fn an_id_that_does_not_fit_sticks_out_and_the_row_goes_on_below() {
    let id = "i".repeat(63);
    let columns = [plain("ID"), plain("PHASE"), plain("CLUSTER"), plain("AGE")];
    let table = rows(columns, &[[&id, "RUNNING", "eu-1", "3m"], ["short", "CREATING", "eu-1", "2s"]]);
    let expected = format!(
        "ID     PHASE     CLUSTER  AGE\n{id}\n       RUNNING   eu-1     3m\nshort  CREATING  eu-1     2s\n"
    );
    assert_eq!(table.render(Layout::Fit(80)), expected);
}

#[test]
fn texts_side_by_side_go_on_in_further_lines() {
    let texts = ["12:00:00Z".to_owned(), "RUNNING     ".to_owned(), String::new(), "a b c d e f".to_owned()];
    assert_eq!(columns(&texts, Layout::Fit(80)), "12:00:00Z  RUNNING       a b c d e f");
    assert_eq!(columns(&texts, Layout::Fit(26)), "12:00:00Z  RUNNING\n    a b c d e f");
    assert_eq!(wrapped("one two three four", Layout::Fit(12)), "one two\n    three\n    four");
    assert_eq!(wrapped("one two three four", Layout::Wide), "one two three four");
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,12}", "[a-z]{50,90}", "([a-zü]{1,15} ){0,30}", "([ア-ン]{1,8} ){0,20}", "\\PC{0,40}",]
}

proptest! {
    #[test]
    fn no_line_is_too_wide_and_no_word_is_lost(
        cells in prop::collection::vec(prop::array::uniform5(cell()), 0..6),
        width in 40_usize..160,
    ) {
        let columns = [plain("ID"), plain("LAST SEEN"), plain("STATE"), sentence("REASON"), note("REMEDY")];
        let mut table = Table::new(columns);
        for row in &cells {
            table.row(row.clone());
        }
        let text = table.render(Layout::Fit(width));
        prop_assert_eq!(too_wide(&text, width), Vec::<&str>::new());
        let shown: Vec<&str> = text.split_whitespace().collect();
        for word in cells.iter().flatten().flat_map(|cell| clean(cell).split_whitespace().map(str::to_owned).collect::<Vec<_>>()) {
            prop_assert!(shown.contains(&word.as_str()), "{} is lost in\n{}", word, text);
        }
        prop_assert!(!text.chars().any(|c| c != '\n' && is_unsafe(c)));
    }
}
