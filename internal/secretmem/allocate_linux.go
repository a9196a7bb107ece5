package secretmem

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocate returns zeroed whole pages for size bytes, hidden if the kernel can: memfd_secret is there since Linux 5.14,
// on by default since 6.5, and some sandboxes refuse it.
func allocate(size int) ([]byte, Protection, error) {
	size = wholePages(size)
	if pages, err := hiddenPages(size); err == nil {
		return pages, Hidden, nil
	}
	return privatePages(size)
}

func wholePages(size int) int {
	page := os.Getpagesize()
	return (size + page - 1) / page * page
}

// hiddenPages maps a secret memory file. The mapping keeps the pages, so the descriptor need not stay open, and is charged
// to RLIMIT_MEMLOCK.
func hiddenPages(size int) ([]byte, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, err
	}
	pages, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	// A child of fork(2) would share the pages. Go only forks to execute another program at once, which maps nothing of
	// this; the advice is for what is linked in with cgo.
	_ = unix.Madvise(pages, unix.MADV_DONTFORK)
	return pages, nil
}

// privatePages maps anonymous memory with as much protection as it can get.
func privatePages(size int) ([]byte, Protection, error) {
	pages, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, Ordinary, err
	}
	_ = unix.Madvise(pages, unix.MADV_WIPEONFORK)
	if unix.Madvise(pages, unix.MADV_DONTDUMP) != nil {
		return pages, Ordinary, nil
	}
	if unix.Mlock(pages) != nil {
		return pages, Excluded, nil
	}
	return pages, Locked, nil
}

// free gives pages back; unmapping what allocate mapped cannot fail.
func free(pages []byte) { _ = unix.Munmap(pages) }
