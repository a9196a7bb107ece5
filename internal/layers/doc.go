// Package layers holds the tests that keep the structure: who may import whom, which package owns which outside library,
// what the daemon links, and what no package may contain. It has no code of its own, and promises nothing about behaviour.
//
// The tables in the tests are exact on purpose. To import something new, add it there, in the same change, where a
// reviewer sees it.
package layers
