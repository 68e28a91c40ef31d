// Package ingest takes a write, sends each replica its share, and answers once
// a quorum holds every sample.
//
//	body ─▶ handler ─▶ wire ─▶ route ─▶ write ─┬─▶ local ──────────────▶ Storage
//	        how much   frames  shares          └─▶ peer ⇒ server ─▶ local ─▶ Storage
//	        may come           by store        ◀── outcomes per sample
//	                                    quorum ─▶ status ─▶ answer
//
// The coordinator, whichever node a write reached, checks it once and lays
// every series out in one canonical form (package wire); the same bytes go to
// each replica. A replica, the coordinator itself included, lets a share
// through its fence only when nothing that the share was routed by has
// changed; it stores or refuses, and never forwards.
//
// What the cluster has agreed on comes as a View, pushed from outside; this
// room knows neither Raft nor a disk.
package ingest
