// Package ship carries finished blocks to object storage, once, in an order
// that a reader may trust, and remembers that it did.
//
// A block is a directory named by its ULID with chunks, index and meta.json;
// the TSDB renames it into place when it is whole and never writes to it again.
// Each travels through four states, and a crash in any of them is harmless:
//
//	on disk    nothing of it is in the bucket. A crash: the next scan finds it.
//	partial    chunks, then index are uploaded. Readers ignore a directory
//	           without meta.json. A crash: the next scan uploads all again over
//	           what is there; objects of a block have one name and one content.
//	in bucket  meta.json is there, as the last object. A crash before the ledger
//	           knows: the next scan finds meta.json, verifies, uploads nothing.
//	safe       meta.json was read back and is ours, every object has its size,
//	           and the ledger has it on disk. Only now may the TSDB delete it.
//
// A block is never uploaded again once its meta.json was seen: if that or an
// object differs from ours, the block is not safe and an error is counted.
package ship
