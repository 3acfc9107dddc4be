//! From sizes that are taken and sizes that are not to the conditions that tell them apart.

use crate::domain::Sizes;

/// The simplest conditions that admit every size of `taken` and none of `refused`.
pub(super) fn conditions(taken: &[usize], refused: &[usize]) -> Sizes {
    if refused.is_empty() {
        return Sizes::default();
    }
    let explains =
        |sizes: &Sizes| taken.iter().all(|size| sizes.admits(*size)) && !refused.iter().any(|size| sizes.admits(*size));
    let (Some(&least), Some(&greatest)) = (taken.iter().min(), taken.iter().max()) else {
        return Sizes::default();
    };
    if least == greatest {
        return Sizes::only(least);
    }
    let divisor = divisor(taken);
    let steps = [
        Sizes::default(),
        Sizes {
            multiple_of: Some(divisor).filter(|divisor| *divisor > 1),
            ..Sizes::default()
        },
        Sizes {
            power_of_two: taken.iter().all(|size| size.is_power_of_two()),
            ..Sizes::default()
        },
    ];
    let bounds = [
        (None, None),
        (Some(least), None),
        (None, Some(greatest)),
        (Some(least), Some(greatest)),
    ];
    for step in &steps {
        for (min, max) in bounds {
            let sizes = Sizes {
                min,
                max,
                ..step.clone()
            };
            if explains(&sizes) {
                return sizes;
            }
        }
    }
    let mut listed = taken.to_vec();
    listed.sort_unstable();
    listed.dedup();
    Sizes {
        one_of: Some(listed),
        ..Sizes::default()
    }
}

/// The greatest number that divides all.
pub(super) fn divisor(sizes: &[usize]) -> usize {
    sizes.iter().fold(0, |divisor, size| common_divisor(divisor, *size))
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simplest_conditions_are_found() {
        let of = |admits: &dyn Fn(usize) -> bool| {
            let (taken, refused): (Vec<usize>, Vec<usize>) = (0..300).partition(|size| admits(*size));
            conditions(&taken, &refused)
        };
        assert_eq!(of(&|_| true), Sizes::default());
        assert_eq!(of(&|size| size % 16 == 0), Sizes::multiples_of(16));
        assert_eq!(
            of(&|size| size >= 1),
            Sizes {
                min: Some(1),
                ..Sizes::default()
            }
        );
        assert_eq!(of(&|size| (3..=40).contains(&size)), Sizes::within(3, 40));
        assert!(of(&usize::is_power_of_two).power_of_two);
        assert_eq!(of(&|size| [1, 2, 6].contains(&size)).one_of, Some(vec![1, 2, 6]));
        let both = of(&|size| size % 8 == 0 && (1..=200).contains(&size));
        assert_eq!((both.min, both.max, both.multiple_of), (Some(8), Some(200), Some(8)));
    }
}
