//! Which request goes where.

/// Whose turn it is, and whether over a new connection: the share holds for each address by itself.
pub(super) struct Turns {
    share: f64,
    owed: Vec<f64>,
    turn: usize,
}

impl Turns {
    pub(super) fn new(routes: usize, share: f64) -> Self {
        Self { share, owed: vec![0.0; routes], turn: 0 }
    }

    pub(super) fn next(&mut self) -> (usize, bool) {
        let route = self.turn;
        self.turn = (self.turn + 1) % self.owed.len();
        let owed = &mut self.owed[route];
        *owed += self.share;
        let fresh = *owed >= 1.0;
        if fresh {
            *owed -= 1.0;
        }
        (route, fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn every_address_gets_its_share_of_new_connections() {
        let mut turns = Turns::new(5, 0.2);
        let mut fresh = [0; 5];
        for _ in 0..500 {
            let (route, new) = turns.next();
            fresh[route] += u32::from(new);
        }
        assert!(fresh.iter().all(|count| (19..=20).contains(count)), "{fresh:?}");
    }
}
