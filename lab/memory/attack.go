package memory

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// leastDistinct is how many different bytes 32 bytes must have to be tried as a key. Of random ones, one in ten million has
// fewer, and most of what is not random does.
const leastDistinct = 20

// Keys returns every 32 bytes in the writable regions, at any offset, that look like a random key, each once.
func Keys(regions ...Region) [][32]byte {
	seen := make(map[[32]byte]bool)
	var keys [][32]byte
	for _, region := range regions {
		if !region.Writable {
			continue
		}
		var count [256]int
		distinct := 0
		for i, b := range region.Bytes {
			if count[b]++; count[b] == 1 {
				distinct++
			}
			if i < 31 {
				continue
			}
			if key := [32]byte(region.Bytes[i-31 : i+1]); distinct >= leastDistinct && !seen[key] {
				seen[key] = true
				keys = append(keys, key)
			}
			old := region.Bytes[i-31]
			if count[old]--; count[old] == 0 {
				distinct--
			}
		}
	}
	return keys
}

// Opens returns how many of the keys open reports true for. open is called concurrently.
func Opens(keys [][32]byte, open func(key []byte) bool) int {
	var wg sync.WaitGroup
	var next, opened atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(keys)); i = next.Add(1) - 1 {
				if open(keys[i][:]) {
					opened.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(opened.Load())
}
