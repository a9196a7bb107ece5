package auditlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// rotatedFile is a file that was the current one.
type rotatedFile struct {
	path  string
	first uint64 // the number of its first line, by its name
}

// rotatedName returns the name that the current file keeps: with the number of its first line, so that names sort.
func rotatedName(path string, first uint64) string { return fmt.Sprintf("%s.%020d", path, first) }

// firstByName returns the number in the name of a rotated file, and the name of the current file that it was.
func firstByName(path string) (current string, first uint64, ok bool) {
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 || len(path)-dot != 21 {
		return path, 0, false
	}
	first, err := strconv.ParseUint(path[dot+1:], 10, 64)
	if err != nil {
		return path, 0, false
	}
	return path[:dot], first, true
}

// rotated returns the rotated files beside the current one, the oldest first.
func rotated(path string) (files []rotatedFile) {
	names, err := filepath.Glob(escaped(path) + ".*")
	if err != nil {
		return nil
	}
	for _, name := range names { // sorted
		if _, first, ok := firstByName(name); ok {
			files = append(files, rotatedFile{name, first})
		}
	}
	return files
}

// escaped returns path as a pattern that matches it only.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// eachLine calls do with each line of r, without its end, and whether it has one. A line that is longer than any that the
// log writes is handed on in pieces, which are no lines either. The text is valid during the call.
func eachLine(r io.Reader, do func(text []byte, whole bool)) error {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		text, err := lines.ReadSlice('\n')
		switch {
		case err == nil:
			do(bytes.TrimSuffix(text, []byte("\n")), true)
		case errors.Is(err, bufio.ErrBufferFull):
			do(text, true)
		case errors.Is(err, io.EOF):
			if len(text) > 0 {
				do(text, false)
			}
			return nil
		default:
			return err
		}
	}
}

// lastSeq returns the number of the last line in a file that is one; 0 if there is none, or no file.
func lastSeq(path string) (uint64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	var last uint64
	err = eachLine(io.NewSectionReader(f, max(0, size-2*maxLine), 2*maxLine), func(text []byte, _ bool) {
		if line, err := parseLine(text); err == nil {
			last = line.Seq
		}
	})
	return last, err
}
