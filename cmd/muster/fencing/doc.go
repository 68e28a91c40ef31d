// Package fencing lets a cluster of real processes write and read while slots
// change hands and nodes are frozen, cut off or killed, and judges what was
// acknowledged, refused and answered:
//
//	scene.go    a cluster, its load, and the beginning and end of a story
//	faults.go   nodes are frozen, cut off and made deaf
//	changes.go  slots get other holders meanwhile
//	stories.go  the stories: who suffers, and what moves meanwhile
//	load.go     series that lie in chosen slots, written through every node
//	ledger.go   every write with its answer, and who could not reach whom
//	readers.go  every node is asked for everything all the time
//	table.go    who holds the slots, as it is seen to change
//	judge.go    what must not be
//	stores.go   what each store has, asked of itself alone
//
// What must not be, in all of them:
//
//   - an answer that calls itself complete lacks a sample that was acknowledged
//     before it was asked for;
//   - an incomplete answer does not say of what and of whom;
//   - a series whose slot has not changed is refused where a quorum of the slot's
//     replicas can be reached;
//   - a write is acknowledged in a closed epoch, by a node that cannot have heard
//     that it has ended;
//   - a store that let a slot go has samples of it that were written after the
//     closing.
//
// A story in which no share met a fence shows nothing, and says so.
package fencing
