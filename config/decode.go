package config

import (
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// maxFile is the largest configuration that is read, 1 MiB. YAML aliases are
// refused, so a file cannot grow while it is decoded.
const maxFile = 1 << 20

// Problem is one thing that is wrong with a file.
type Problem struct {
	Line int // 0 where it is about the file as a whole
	Text string
}

// Problems is all that is wrong with a file, in the order of its lines.
type Problems struct {
	File string
	List []Problem
}

// Error returns one line a problem, each with the file and its line.
func (p *Problems) Error() string {
	var b strings.Builder
	for i, x := range p.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		if x.Line > 0 {
			fmt.Fprintf(&b, "%s:%d: %s", p.File, x.Line, x.Text)
		} else {
			fmt.Fprintf(&b, "%s: %s", p.File, x.Text)
		}
	}
	return b.String()
}

// decoder walks a YAML document along a Go type. Unlike the yaml package's own
// decoding it goes on after a problem, and it remembers on which line each key stands.
type decoder struct {
	file     string
	root     *yaml.Node
	problems []Problem
	ignored  []string
	lines    map[string]int  // dotted path of a key → line
	bad      map[string]bool // paths whose value could not be read
	zero     map[string]bool // paths of sizes that were given as 0
}

func (d *decoder) add(line int, text string) { d.problems = append(d.problems, Problem{line, text}) }

func (d *decoder) addErr(line int, what string, err error) {
	if err != nil {
		d.add(line, what+": "+err.Error())
	}
}

func (d *decoder) line(path ...string) int { return d.lines[strings.Join(path, ".")] }

func (d *decoder) failed(path string) bool { return d.bad[path] }

func (d *decoder) sorted() *Problems {
	sort.SliceStable(d.problems, func(i, j int) bool { return d.problems[i].Line < d.problems[j].Line })
	return &Problems{File: d.file, List: d.problems}
}

func (d *decoder) document(b []byte, into any) {
	d.lines, d.bad, d.zero = map[string]int{}, map[string]bool{}, map[string]bool{}
	if len(b) > maxFile {
		d.add(0, fmt.Sprintf("%d bytes, at most %d", len(b), maxFile))
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		line, text := yamlError(err)
		d.add(line, text)
		return
	}
	d.root = &yaml.Node{Kind: yaml.MappingNode}
	if len(doc.Content) > 0 {
		d.root = doc.Content[0]
	}
	d.value(d.root, "", reflect.ValueOf(into).Elem())
}

// yamlError takes the line out of an error of the yaml package, whose text is
// "yaml: line 3: what is wrong".
func yamlError(err error) (line int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if n, what, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(n); err == nil {
				return line, what
			}
		}
	}
	return 0, text
}

// value reads n, which stands at path, into v.
func (d *decoder) value(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind == yaml.AliasNode {
		d.wrong(n, path, "a value instead of a YAML alias")
		return
	}
	if n.Tag == "!!null" { // "key:" with nothing behind it is a key that is missing
		delete(d.lines, path)
		return
	}
	switch v.Type() {
	case reflect.TypeFor[Duration]():
		d.duration(n, path, v)
		return
	case reflect.TypeFor[Size]():
		d.size(n, path, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, path, v)
	case reflect.Slice:
		d.list(n, path, v)
	case reflect.String:
		if n.Kind != yaml.ScalarNode {
			d.wrong(n, path, "a text")
			return
		}
		v.SetString(n.Value) // also for what YAML takes for a number, such as an id of digits
	case reflect.Int:
		x, err := strconv.ParseInt(n.Value, 10, 32)
		if n.Kind != yaml.ScalarNode || err != nil || x < 0 {
			d.wrong(n, path, "a number, 0 or more")
			return
		}
		v.SetInt(x)
	default:
		d.wrong(n, path, "something else") // no field of Config has such a type
	}
}

func (d *decoder) wrong(n *yaml.Node, path, want string) {
	d.bad[path] = true
	name := path
	if name == "" {
		name = "the file"
	}
	d.add(n.Line, fmt.Sprintf("%s: want %s, got %s", name, want, kindOf(n)))
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	return fmt.Sprintf("%.40q", n.Value)
}

func (d *decoder) list(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, path, "a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := path + "." + strconv.Itoa(i)
		d.lines[at] = item.Line
		d.value(item, at, v.Index(i))
	}
}

func (d *decoder) mapping(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, "a section of keys")
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		f, known := fields[key.Value]
		switch first, twice := seen[key.Value]; {
		case !known:
			d.add(key.Line, unknown(at, key.Value, fields))
			continue
		case twice:
			d.add(key.Line, fmt.Sprintf("%s stands here again, first on line %d", at, first))
			continue
		}
		seen[key.Value] = key.Line
		d.lines[at] = key.Line
		if f.Tag.Get("ignored") != "" {
			d.ignored = append(d.ignored, at)
		}
		d.value(item, at, v.FieldByIndex(f.Index))
	}
}

func (d *decoder) duration(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind == yaml.MappingNode {
		var m struct {
			Secs  int `yaml:"secs"`
			Nanos int `yaml:"nanos"`
		}
		d.mapping(n, path, reflect.ValueOf(&m).Elem())
		v.SetInt(int64(m.Secs)*int64(time.Second) + int64(m.Nanos))
		return
	}
	x, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || x < 0 {
		d.wrong(n, path, "a duration such as 30s or { secs: 30, nanos: 0 }")
		return
	}
	v.SetInt(int64(x))
}

func (d *decoder) size(n *yaml.Node, path string, v reflect.Value) {
	x, err := ParseSize(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.wrong(n, path, "a size such as 4GiB, 500MiB or a number of bytes")
		return
	}
	if x == 0 {
		d.zero[path] = true
	}
	v.SetInt(int64(x))
}

func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			fields[name] = t.Field(i)
		}
	}
	return fields
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unknown is the text for a key that nobody knows, with the known key nearest to it.
func unknown(at, key string, fields map[string]reflect.StructField) string {
	best, least := "", len(key)/2+2
	for name := range fields {
		if n := distance(key, name); n < least || n == least && name < best {
			best, least = name, n
		}
	}
	if best == "" {
		return fmt.Sprintf("unknown key %s", at)
	}
	return fmt.Sprintf("unknown key %s; did you mean %s?", at, best)
}

// distance is the Levenshtein distance of a and b in bytes.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// AsProblems returns the problems of err, if it is about a file's content.
func AsProblems(err error) (*Problems, bool) {
	return errors.AsType[*Problems](err)
}
