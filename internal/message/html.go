package message

import (
	"html"
	"strings"
)

// textOfHTML returns the text of an HTML document, at most limit bytes: tags are left
// out, blocks become lines, scripts and styles are dropped. It is for reading, not for
// making HTML safe; nothing renders the result as HTML.
func textOfHTML(doc string, limit int) string {
	var b strings.Builder
	for doc != "" && b.Len() < limit {
		open := strings.IndexByte(doc, '<')
		if open < 0 {
			open = len(doc)
		}
		writeWords(&b, html.UnescapeString(doc[:open]))
		doc = doc[open:]
		if doc == "" {
			break
		}
		if rest, ok := strings.CutPrefix(doc, "<!--"); ok {
			_, doc, _ = strings.Cut(rest, "-->")
			continue
		}
		end := strings.IndexByte(doc, '>')
		if end < 0 {
			break
		}
		name := tagName(doc[1:end])
		doc = doc[end+1:]
		switch name {
		case "script", "style", "head", "title":
			doc = skipTo(doc, "</"+name)
		case "br", "p", "/p", "div", "/div", "tr", "/tr", "li", "/ul", "/ol", "h1", "h2", "h3", "h4", "/h1", "/h2", "/h3", "/h4", "blockquote", "/blockquote", "hr", "table":
			newLine(&b)
			if name == "li" {
				b.WriteString("- ")
			}
		case "td", "th":
			b.WriteByte(' ')
		}
	}
	text := strings.TrimSpace(b.String())
	for strings.Contains(text, "\n\n\n") {
		text = strings.ReplaceAll(text, "\n\n\n", "\n\n")
	}
	return shortenBytes(text, limit)
}

func tagName(tag string) string {
	end := strings.IndexAny(tag, " \t\r\n/")
	if strings.HasPrefix(tag, "/") {
		end = strings.IndexAny(tag[1:], " \t\r\n/")
		if end >= 0 {
			end++
		}
	}
	if end >= 0 {
		tag = tag[:end]
	}
	if len(tag) > 20 {
		return ""
	}
	return strings.ToLower(tag)
}

// skipTo returns what follows the tag that begins with end, in either case of letters.
func skipTo(doc, end string) string {
	for i := 0; i+len(end) <= len(doc); {
		j := strings.IndexByte(doc[i:], '<')
		if j < 0 {
			return ""
		}
		i += j
		if len(doc) >= i+len(end) && strings.EqualFold(doc[i:i+len(end)], end) {
			_, rest, _ := strings.Cut(doc[i:], ">")
			return rest
		}
		i++
	}
	return ""
}

// writeWords writes text with every run of blanks as one.
func writeWords(b *strings.Builder, text string) {
	blank := strings.TrimLeft(text, " \t\r\n\u00a0") != text
	for _, word := range strings.Fields(text) {
		if blank && b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
			b.WriteByte(' ')
		}
		b.WriteString(word)
		blank = true
	}
	if strings.TrimRight(text, " \t\r\n\u00a0") != text && b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") && !strings.HasSuffix(b.String(), " ") {
		b.WriteByte(' ')
	}
}

func newLine(b *strings.Builder) {
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
}

func shortenBytes(text string, limit int) string {
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return text
}
