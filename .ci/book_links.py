"""Lets links of the book that leave docs/ lead to the repository where it is published. A preprocessor of mdBook: see book.toml."""

import json
import os.path
import re
import sys

ROOM = "docs"
LINK = re.compile(r"\]\(([^()\s]+)\)")


def redirected(page: str, published: str, link: str) -> str:
    """Returns a link of the page so that it leads on from the book."""
    path, hash_sign, anchor = link.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link
    target = os.path.normpath(os.path.join(ROOM, os.path.dirname(page), path))
    if target.startswith(ROOM + "/") and target != f"{ROOM}/SUMMARY.md":
        return link
    kind = "tree" if os.path.isdir(target) else "blob"
    return f"{published}/{kind}/main/{target}{hash_sign}{anchor}"


def of_text(text: str, page: str, published: str) -> str:
    """Returns the text of a page with its links redirected. What stands in code stays."""
    lines, fenced = [], False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            parts = line.split("`")
            parts[::2] = [
                LINK.sub(lambda found: f"]({redirected(page, published, found[1])})", part) for part in parts[::2]
            ]
            line = "`".join(parts)
        lines.append(line)
    return "\n".join(lines)


def visit(node, published: str) -> None:
    """Redirects the links of each chapter below a node of the book."""
    if isinstance(node, list):
        for each in node:
            visit(each, published)
    elif isinstance(node, dict):
        if node.get("path") and isinstance(node.get("content"), str):
            node["content"] = of_text(node["content"], node["path"], published)
        for each in node.values():
            visit(each, published)


def main() -> None:
    """Reads the book from standard input, and writes it to standard output."""
    if sys.argv[1:2] == ["supports"]:
        return
    context, book = json.load(sys.stdin)
    visit(book, context["config"]["output"]["html"]["git-repository-url"])
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
