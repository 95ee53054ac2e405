//! Addresses as those may see them who need not write to them: the first character and the domain.

/// `c…@tamky.vn.example` of `chutich@tamky.vn.example`. What has no `@` is hidden whole.
pub fn masked(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => {
            let first: String = local.chars().take(1).collect();
            format!("{first}…@{domain}")
        }
        None => "…".into(),
    }
}

/// A text in which every address is [`masked`].
pub fn masked_in(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut word = String::new();
    let end = |word: &mut String, shown: &mut String| {
        if word.contains('@') {
            shown.push_str(&masked(word));
        } else {
            shown.push_str(word);
        }
        word.clear();
    };
    for c in text.chars() {
        // What may stand in the local part of an address; `:` and `;` end the type before it (`rfc822;a@b`).
        let is_of_word = c.is_alphanumeric() || "@.!#$%&'*+-/=?^_`{|}~…".contains(c);
        if is_of_word {
            word.push(c);
        } else {
            end(&mut word, &mut shown);
            shown.push(c);
        }
    }
    end(&mut word, &mut shown);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_its_first_letter_and_its_domain() {
        let rows = [
            ("550 5.1.1 <gone@vn.example>: no such user", "550 5.1.1 <g…@vn.example>: no such user"),
            ("rfc822;gone@vn.example", "rfc822;g…@vn.example"),
            ("a@b.example and đông@b.example.", "a…@b.example and đ…@b.example."),
            ("\"two words\"@b.example", "\"two words\"…@b.example"),
            ("no address at all: 5 > 4", "no address at all: 5 > 4"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(masked_in(text), expected);
        }
        assert_eq!(masked("chutich@tamky.vn.example"), "c…@tamky.vn.example");
        assert_eq!(masked("chutich"), "…");
    }
}
