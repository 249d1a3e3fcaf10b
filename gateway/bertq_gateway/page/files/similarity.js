// The similarity of vectors, as bertq_client.search.similarity computes it: larger is more similar.

const add = (a, b, term) => a.reduce((sum, value, index) => sum + term(value, b[index]), 0);
const dot = (a, b) => add(a, b, (x, y) => x * y);

function cosine(a, b) {
  const lengths = Math.sqrt(dot(a, a) * dot(b, b));
  return lengths ? dot(a, b) / lengths : 0;
}

const FUNCTIONS = {
  cosine,
  dot,
  euclidean: (a, b) => -Math.sqrt(add(a, b, (x, y) => (x - y) ** 2)),
  manhattan: (a, b) => -add(a, b, (x, y) => Math.abs(x - y)),
};

/** The function of a model whose authors name none. */
export const DEFAULT = "cosine";

export function similarityMatrix(name, vectors) {
  const compare = FUNCTIONS[name];
  return vectors.map((a) => vectors.map((b) => compare(a, b)));
}

/** Return vectors of equal length for sparse rows, with the tokens that occur in any of them. */
export function densify(sparseRows) {
  const indices = [...new Set(sparseRows.flat().map((entry) => entry.index))];
  const places = new Map(indices.map((index, place) => [index, place]));
  return sparseRows.map((row) => {
    const vector = new Array(indices.length).fill(0);
    for (const { index, value } of row) vector[places.get(index)] = value;
    return vector;
  });
}
