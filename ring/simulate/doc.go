// Package simulate asks what a way of placing series would do, without a
// cluster: how evenly nodes are loaded, what a change moves, and whom the loss
// of some nodes touches. Beside the slot table it knows the two ways that other
// systems place series: a ring of many sections a node (ketama, as Thanos
// Receive does it) and random tokens (as the Dynamo family does).
//
// A placement of any kind is a Layout: the space of keys cut into arcs, each
// with its replicas. Everything is computed from layouts, so that all kinds are
// measured alike. All chance comes from a seed: the same input gives the same
// numbers.
package simulate
