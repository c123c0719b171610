//! How one input is handed over in many ways, all derived from its own bytes, so that a finding repeats.

/// Small numbers that follow from an input (splitmix64 from its FNV hash).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(data: &[u8]) -> Self {
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        Self(data.iter().fold(0xCBF2_9CE4_8422_2325, hash))
    }

    /// `0..below`; 0 if that is empty.
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as usize % below.max(1)
    }
}

/// Cuts `data` at `count` places.
pub fn cut<'a>(data: &'a [u8], count: usize, dice: &mut Dice) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = (0..count).map(|_| dice.roll(data.len() + 1)).collect();
    places.sort_unstable();
    let mut from = 0;
    let mut pieces = Vec::new();
    for to in places.into_iter().chain([data.len()]) {
        pieces.push(&data[from..to]);
        from = to;
    }
    pieces
}

/// Ways to hand `data` over other than at once: byte by byte, in two at two places, in several.
pub fn splits(data: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut dice = Dice::new(data);
    vec![data.chunks(1).collect(), cut(data, 1, &mut dice), cut(data, 1, &mut dice), cut(data, 5, &mut dice)]
}

/// Every way to hand `data` over in two pieces.
pub fn halves(data: &[u8]) -> impl Iterator<Item = [&[u8]; 2]> {
    (0..=data.len()).map(|at| [&data[..at], &data[at..]])
}
