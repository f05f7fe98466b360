/* Values of Python -> Arrow arrays, twin of `arrow._build_in_python` and `cells._unquoted_in_python`.
 *
 * Arrays are handed over by Arrow's C data interface, in memory of their size: each text is moved once, where a list of
 * texts, a builder that grows and an array for each part move it several times.
 *
 * Not here: numbers out of range, variants, values of another type than their column's, more than 2 GB. For these None is
 * returned, and Python makes the array.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

/* Source: the Arrow C data interface, "Structure definitions". */
struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

/* What belongs to an array. Whoever took the array frees it, maybe without the interpreter: nothing of Python in it. */
typedef struct {
    const void *buffers[3];
    struct ArrowArray **children, *owned;
} Parts;

enum { MADE, FOR_PYTHON, FAILED };

static int no_memory(void) {
    PyErr_NoMemory();
    return FAILED;
}

static void release_array(struct ArrowArray *array) {
    Parts *parts = array->private_data;
    for (int i = 0; i < array->n_children; i++) {
        if (parts->owned[i].release != NULL) parts->owned[i].release(&parts->owned[i]);
    }
    for (int i = 0; i < array->n_buffers; i++) free((void *)parts->buffers[i]);
    free(parts->children);
    free(parts->owned);
    free(parts);
    array->release = NULL;
}

static Parts *begin(struct ArrowArray *array, int64_t length, int buffers, Py_ssize_t children) {
    Parts *parts = calloc(1, sizeof(Parts));
    if (parts == NULL) return NULL;
    parts->children = calloc(children + 1, sizeof(struct ArrowArray *));
    parts->owned = calloc(children + 1, sizeof(struct ArrowArray));
    if (parts->children == NULL || parts->owned == NULL) {
        free(parts->children);
        free(parts->owned);
        free(parts);
        return NULL;
    }
    *array = (struct ArrowArray){
        .length = length, .n_buffers = buffers, .n_children = children, .buffers = parts->buffers,
        .children = parts->children, .release = release_array, .private_data = parts,
    };
    for (Py_ssize_t i = 0; i < children; i++) parts->children[i] = &parts->owned[i];
    return parts;
}

static void free_array(PyObject *capsule) {
    struct ArrowArray *array = PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release != NULL) array->release(array); /* nobody took it */
    free(array);
}

/* The array in a capsule, or None if it was left to Python. */
static PyObject *handed_over(struct ArrowArray *array, int outcome) {
    PyObject *capsule = NULL;
    if (outcome == MADE && (capsule = PyCapsule_New(array, "arrow_array", free_array)) != NULL) return capsule;
    if (array->release != NULL) array->release(array);
    free(array);
    return outcome == FOR_PYTHON ? Py_NewRef(Py_None) : NULL;
}

/* -------------------------------------------------------------------------------------------------------- texts */

/* A part of a str, all of a bytes object that is UTF-8, or null. The reference is borrowed. */
typedef struct {
    PyObject *text;
    Py_ssize_t start, stop;
    int goes_on; /* the next piece belongs to the same text */
} Piece;

static inline Piece whole(PyObject *text) {
    return (Piece){text, 0, PyUnicode_Check(text) ? PyUnicode_GET_LENGTH(text) : PyBytes_GET_SIZE(text), 0};
}

static int is_utf8(PyObject *bytes) {
    const char *text = PyBytes_AS_STRING(bytes);
    Py_ssize_t size = PyBytes_GET_SIZE(bytes), at = 0;
    for (uint64_t word; at + 8 <= size; at += 8) {
        memcpy(&word, text + at, 8);
        if (word & 0x8080808080808080ULL) break;
    }
    while (at < size && !(text[at] & 0x80)) at++;
    if (at == size) return 1;
    PyObject *decoded = PyUnicode_DecodeUTF8(text + at, size - at, NULL);
    Py_XDECREF(decoded);
    PyErr_Clear();
    return decoded != NULL;
}

/* No less than a piece comes to. */
static inline uint64_t most_bytes(Piece piece) {
    uint64_t length = piece.stop - piece.start;
    if (PyBytes_Check(piece.text) || PyUnicode_IS_ASCII(piece.text)) return length;
    return length * (PyUnicode_KIND(piece.text) == 1 ? 2 : PyUnicode_KIND(piece.text) == 2 ? 3 : 4);
}

/* Half a surrogate pair becomes a question mark, as `str.encode("utf-8", "replace")` has it. */
static char *encode(char *at, Piece piece) {
    int kind = PyUnicode_KIND(piece.text);
    const void *data = PyUnicode_DATA(piece.text);
    for (Py_ssize_t i = piece.start; i < piece.stop; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c < 0x80) {
            *at++ = (char)c;
        } else if (c < 0x800) {
            *at++ = (char)(0xC0 | c >> 6);
            *at++ = (char)(0x80 | (c & 0x3F));
        } else if (c >= 0xD800 && c < 0xE000) {
            *at++ = '?';
        } else {
            if (c < 0x10000) {
                *at++ = (char)(0xE0 | c >> 12);
            } else {
                *at++ = (char)(0xF0 | c >> 18);
                *at++ = (char)(0x80 | (c >> 12 & 0x3F));
            }
            *at++ = (char)(0x80 | (c >> 6 & 0x3F));
            *at++ = (char)(0x80 | (c & 0x3F));
        }
    }
    return at;
}

static char *put(char *at, Piece piece) {
    const char *bytes;
    if (PyBytes_Check(piece.text)) {
        bytes = PyBytes_AS_STRING(piece.text);
    } else if (PyUnicode_IS_ASCII(piece.text)) {
        bytes = PyUnicode_DATA(piece.text);
    } else {
        return encode(at, piece);
    }
    memcpy(at, bytes + piece.start, piece.stop - piece.start);
    return at + (piece.stop - piece.start);
}

/* An array of type STRING, of `count` texts.
 *
 * Its first byte is no text's. Without a byte, the Parquet writer would compare texts at an address that is none, for
 * each of which the processor takes 150 ns.
 */
static int make_texts(struct ArrowArray *array, const Piece *pieces, Py_ssize_t count) {
    uint64_t most = 1;
    int64_t nulls = 0;
    for (Py_ssize_t i = 0, text = 0; text < count; text += !pieces[i++].goes_on) {
        if (pieces[i].text == NULL) nulls++;
        else most += most_bytes(pieces[i]);
    }
    if (most > INT32_MAX) return FOR_PYTHON;
    Parts *parts = begin(array, count, 3, 0);
    if (parts == NULL) return no_memory();
    array->null_count = nulls;
    uint8_t *there = nulls ? calloc(count / 8 + 1, 1) : NULL;
    int32_t *offsets = malloc((count + 1) * sizeof(int32_t));
    char *start = malloc(most), *at = start;
    parts->buffers[0] = there;
    parts->buffers[1] = offsets;
    parts->buffers[2] = start;
    if (offsets == NULL || start == NULL || (nulls && there == NULL)) return no_memory();
    if (count) *at++ = '.'; /* arro3 0.9 panics over an array without texts that does not begin with its first byte */
    for (Py_ssize_t text = 0; text < count; text++, pieces++) {
        offsets[text] = (int32_t)(at - start);
        if (pieces->text == NULL) continue;
        if (there != NULL) there[text / 8] |= 1 << text % 8;
        at = put(at, *pieces);
        while (pieces->goes_on) at = put(at, *++pieces);
    }
    offsets[count] = (int32_t)(at - start);
    if ((uint64_t)(at - start) < most / 2) {
        char *shorter = realloc(start, at - start);
        if (shorter != NULL) parts->buffers[2] = shorter;
    }
    return MADE;
}

/* -------------------------------------------------------------------------------------------------------- columns */

typedef PyObject *const *Values; /* Borrowed; NULL and None are null. */

static inline int is_null(PyObject *value) { return value == NULL || value == Py_None; }

/* The bitmap of what is there, NULL if all is; how many are not. */
static int make_bitmap(struct ArrowArray *array, Parts *parts, Values values, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) array->null_count += is_null(values[i]);
    if (array->null_count == 0) return MADE;
    uint8_t *there = calloc(count / 8 + 1, 1);
    if (there == NULL) return no_memory();
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!is_null(values[i])) there[i / 8] |= 1 << i % 8;
    }
    parts->buffers[0] = there;
    return MADE;
}

/* The pieces of a text: a str, bytes that are UTF-8, or a list of such. */
static int add_text(Piece **at, PyObject *value, int *of_bytes, int *of_str) {
    PyObject *one[] = {value}, **parts = one;
    Py_ssize_t count = 1;
    if (is_null(value)) {
        ++*at;
        return MADE;
    }
    if (PyList_CheckExact(value) && PyList_GET_SIZE(value)) {
        parts = PySequence_Fast_ITEMS(value);
        count = PyList_GET_SIZE(value);
    } else if (PyUnicode_Check(value)) {
        *of_str = 1;
        *(*at)++ = whole(value);
        return MADE;
    }
    *of_bytes = 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!PyBytes_Check(parts[i]) || !is_utf8(parts[i])) return FOR_PYTHON;
        **at = whole(parts[i]);
        (*at)++->goes_on = i + 1 < count;
    }
    return MADE;
}

static int make_strings(struct ArrowArray *array, Values values, Py_ssize_t count) {
    Py_ssize_t most = 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        most += !is_null(values[i]) && PyList_CheckExact(values[i]) ? PyList_GET_SIZE(values[i]) + 1 : 1;
    }
    Piece *pieces = calloc(most, sizeof(Piece)), *at = pieces;
    int outcome = pieces == NULL ? no_memory() : MADE, of_bytes = 0, of_str = 0;
    for (Py_ssize_t i = 0; i < count && outcome == MADE; i++) outcome = add_text(&at, values[i], &of_bytes, &of_str);
    if (of_bytes && of_str) outcome = FOR_PYTHON;
    if (outcome == MADE) outcome = make_texts(array, pieces, count);
    free(pieces);
    return outcome;
}

static int make_integers(struct ArrowArray *array, Values values, Py_ssize_t count, int width) {
    Parts *parts = begin(array, count, 2, 0);
    if (parts == NULL || make_bitmap(array, parts, values, count) != MADE) return no_memory();
    char *data = calloc(count + 1, width);
    if (data == NULL) return no_memory();
    parts->buffers[1] = data;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (is_null(values[i])) continue;
        int overflow = 0;
        if (!PyLong_CheckExact(values[i])) return FOR_PYTHON;
        int64_t number = PyLong_AsLongLongAndOverflow(values[i], &overflow);
        if (overflow || (width == 4 && number != (int32_t)number)) return FOR_PYTHON;
        if (width == 4) ((int32_t *)data)[i] = (int32_t)number;
        else ((int64_t *)data)[i] = number;
    }
    return MADE;
}

static int make_doubles(struct ArrowArray *array, Values values, Py_ssize_t count) {
    Parts *parts = begin(array, count, 2, 0);
    if (parts == NULL || make_bitmap(array, parts, values, count) != MADE) return no_memory();
    double *data = calloc(count + 1, sizeof(double));
    if (data == NULL) return no_memory();
    parts->buffers[1] = data;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (is_null(values[i])) continue;
        if (!PyFloat_CheckExact(values[i])) return FOR_PYTHON;
        data[i] = PyFloat_AS_DOUBLE(values[i]);
    }
    return MADE;
}

static int make(struct ArrowArray *array, PyObject *kind, Values values, Py_ssize_t count);

/* A struct array of columns that stand one after the other, each of `count` values. */
static int make_fields(struct ArrowArray *array, PyObject *kinds, Values columns, Py_ssize_t count) {
    Parts *parts = array->private_data;
    int outcome = MADE;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kinds) && outcome == MADE; i++) {
        outcome = make(&parts->owned[i], PyTuple_GET_ITEM(kinds, i), columns + i * count, count);
    }
    return outcome;
}

/* Rows are tuples of their width, or null: then all in them is. */
static int make_structs(struct ArrowArray *array, PyObject *kinds, Values values, Py_ssize_t count) {
    Py_ssize_t width = PyTuple_GET_SIZE(kinds);
    Parts *parts = begin(array, count, 1, width);
    if (parts == NULL || make_bitmap(array, parts, values, count) != MADE) return no_memory();
    PyObject **columns = calloc(width * count + 1, sizeof(PyObject *));
    if (columns == NULL) return no_memory();
    int outcome = MADE;
    for (Py_ssize_t i = 0; i < count && outcome == MADE; i++) {
        if (is_null(values[i])) continue;
        if (!PyTuple_CheckExact(values[i]) || PyTuple_GET_SIZE(values[i]) != width) outcome = FOR_PYTHON;
        for (Py_ssize_t j = 0; outcome == MADE && j < width; j++) {
            columns[j * count + i] = PyTuple_GET_ITEM(values[i], j);
        }
    }
    if (outcome == MADE) outcome = make_fields(array, kinds, columns, count);
    free(columns);
    return outcome;
}

/* How many items a list, a tuple or a dictionary has; -1 for anything else. */
static Py_ssize_t size_of(PyObject *value, int map) {
    if (is_null(value)) return 0;
    if (map) return PyDict_CheckExact(value) ? PyDict_GET_SIZE(value) : -1;
    return PyList_CheckExact(value) || PyTuple_CheckExact(value) ? PySequence_Fast_GET_SIZE(value) : -1;
}

/* Lists of items, or maps: lists of structs of a key, which is never null, and an item. */
static int make_lists(struct ArrowArray *array, PyObject *kinds, Values values, Py_ssize_t count, int map) {
    Parts *parts = begin(array, count, 2, 1);
    if (parts == NULL || make_bitmap(array, parts, values, count) != MADE) return no_memory();
    int32_t *offsets = calloc(count + 1, sizeof(int32_t));
    if (offsets == NULL) return no_memory();
    parts->buffers[1] = offsets;
    Py_ssize_t most = 0, size;
    for (Py_ssize_t i = 0; i < count; i++) {
        if ((size = size_of(values[i], map)) < 0 || (most += size) > INT32_MAX) return FOR_PYTHON;
        offsets[i + 1] = (int32_t)most;
    }
    PyObject **items = calloc(2 * most + 1, sizeof(PyObject *)), **keys = items + most, *key, *item;
    if (items == NULL) return no_memory();
    int outcome = MADE;
    for (Py_ssize_t i = 0, at = 0, place = 0; i < count && outcome == MADE; i++, place = 0) {
        if (!map) {
            for (Py_ssize_t j = 0, n = size_of(values[i], 0); j < n; j++) {
                items[at++] = PySequence_Fast_GET_ITEM(values[i], j);
            }
        } else if (!is_null(values[i])) {
            for (; PyDict_Next(values[i], &place, &key, &item); at++) keys[at] = key, items[at] = item;
        }
    }
    if (!map) {
        outcome = make(&parts->owned[0], PyTuple_GET_ITEM(kinds, 0), items, most);
    } else if (begin(&parts->owned[0], most, 1, 2) == NULL) {
        outcome = no_memory();
    } else {
        Parts *of_entries = parts->owned[0].private_data;
        outcome = make(&of_entries->owned[0], PyTuple_GET_ITEM(kinds, 0), keys, most);
        if (outcome == MADE && of_entries->owned[0].null_count) outcome = FOR_PYTHON;
        if (outcome == MADE) outcome = make(&of_entries->owned[1], PyTuple_GET_ITEM(kinds, 1), items, most);
    }
    free(items);
    return outcome;
}

/* `kind` is the format of Arrow's C data interface, with the kinds of what is in it. */
static int make(struct ArrowArray *array, PyObject *kind, Values values, Py_ssize_t count) {
    PyObject *kinds = PyTuple_GET_ITEM(kind, 1);
    const char *format = PyUnicode_AsUTF8(PyTuple_GET_ITEM(kind, 0));
    if (format == NULL) return FAILED;
    switch (format[0]) {
        case 'u': return make_strings(array, values, count);
        case 'i': return make_integers(array, values, count, 4);
        case 'l': return make_integers(array, values, count, 8);
        case 'g': return make_doubles(array, values, count);
        case 't': return make_integers(array, values, count, format[1] == 'd' ? 4 : 8);
        case '+':
            if (format[1] == 's') return make_structs(array, kinds, values, count);
            return make_lists(array, kinds, values, count, format[1] == 'm');
    }
    return FOR_PYTHON;
}

static PyObject *build(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 2 || !PyTuple_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "a kind and its values are needed");
        return NULL;
    }
    PyObject *items = PySequence_Fast(args[1], "a column is a sequence");
    if (items == NULL) return NULL;
    struct ArrowArray *array = calloc(1, sizeof(struct ArrowArray));
    int outcome = array == NULL ? no_memory() : MADE;
    if (outcome == MADE) {
        outcome = make(array, args[0], PySequence_Fast_ITEMS(items), PySequence_Fast_GET_SIZE(items));
    }
    Py_DECREF(items);
    return array == NULL ? NULL : handed_over(array, outcome);
}

/* What another has made becomes a child of the batch. */
static void take(struct ArrowArray *child, PyObject *capsule) {
    struct ArrowArray *made = PyCapsule_GetPointer(capsule, "arrow_array");
    *child = *made;
    made->release = NULL;
}

static PyObject *batch(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 3 || !PyTuple_CheckExact(args[0]) || !PyList_CheckExact(args[1]) || !PyLong_Check(args[2]) ||
        PyTuple_GET_SIZE(args[0]) != PyList_GET_SIZE(args[1])) {
        PyErr_SetString(PyExc_TypeError, "kinds, a list of as many columns and how long they are is needed");
        return NULL;
    }
    PyObject *kinds = args[0], *columns = args[1];
    Py_ssize_t width = PyTuple_GET_SIZE(kinds), rows = PyLong_AsSsize_t(args[2]);
    struct ArrowArray *array = calloc(1, sizeof(struct ArrowArray));
    Parts *parts = array == NULL || rows < 0 ? NULL : begin(array, rows, 1, width);
    int outcome = parts == NULL ? no_memory() : MADE;
    for (Py_ssize_t i = 0; i < width && outcome == MADE; i++) {
        PyObject *column = PyList_GET_ITEM(columns, i);
        if (PyCapsule_IsValid(column, "arrow_array")) {
            struct ArrowArray *made = PyCapsule_GetPointer(column, "arrow_array");
            if (made->release == NULL || made->length != rows) outcome = FOR_PYTHON;
        } else if (!(PyList_CheckExact(column) || PyTuple_CheckExact(column)) || Py_SIZE(column) != rows) {
            outcome = FOR_PYTHON;
        } else {
            outcome = make(&parts->owned[i], PyTuple_GET_ITEM(kinds, i), PySequence_Fast_ITEMS(column), rows);
        }
    }
    for (Py_ssize_t i = 0; i < width && outcome == MADE; i++) {
        PyObject *column = PyList_GET_ITEM(columns, i);
        if (PyCapsule_IsValid(column, "arrow_array")) take(&parts->owned[i], column);
    }
    return array == NULL ? NULL : handed_over(array, outcome);
}

/* --------------------------------------------------------------------------------------------------- attributes */

typedef struct {
    Piece *keys, *values;
    Py_ssize_t count;
    PyObject *kept; /* a list: texts that were made for pieces */
} Entries;

/* What `function` makes of a value: a text, or null. */
static int made_by(PyObject *function, PyObject *value, Entries *entries, Piece *piece) {
    PyObject *text = PyObject_CallOneArg(function, value);
    if (text == NULL) return FAILED;
    int outcome = MADE;
    if (PyUnicode_Check(text)) {
        *piece = whole(text);
        if (PyList_Append(entries->kept, text) < 0) outcome = FAILED;
    } else if (text != Py_None) {
        outcome = FOR_PYTHON;
    }
    Py_DECREF(text);
    return outcome;
}

/* A JSON text: a JSON string as its text, everything else as JSON. */
static int own_value(PyObject *value, PyObject *unquote, Entries *entries, Piece *piece) {
    *piece = whole(value);
    if (piece->stop == 0 || PyUnicode_READ_CHAR(value, 0) != '"') return MADE;
    if (PyUnicode_FindChar(value, '\\', 0, piece->stop, 1) >= 0) return made_by(unquote, value, entries, piece);
    piece->start = 1;
    piece->stop = piece->stop > 1 ? piece->stop - 1 : 1;
    return MADE;
}

static int add(Entries *entries, PyObject *bag, PyObject *function, int own) {
    PyObject *key, *value;
    Py_ssize_t place = 0;
    int outcome = MADE;
    while (outcome == MADE && PyDict_Next(bag, &place, &key, &value)) {
        if (!PyUnicode_Check(key) || (own && !PyUnicode_Check(value))) return FOR_PYTHON;
        Piece *piece = &entries->values[entries->count];
        entries->keys[entries->count++] = whole(key);
        if (own) outcome = own_value(value, function, entries, piece);
        else if (PyUnicode_CheckExact(value)) *piece = whole(value);
        else outcome = made_by(function, value, entries, piece);
    }
    return outcome;
}

/* An array of type MAP<STRING, STRING>, whose entries are an array of structs. */
static int make_maps(struct ArrowArray *array, const Entries *entries, int32_t *offsets, Py_ssize_t count) {
    Parts *parts = begin(array, count, 2, 1), *of_entries;
    if (parts == NULL) {
        free(offsets);
        return no_memory();
    }
    parts->buffers[1] = offsets;
    of_entries = begin(&parts->owned[0], entries->count, 1, 2);
    if (of_entries == NULL) return no_memory();
    int outcome = make_texts(&of_entries->owned[0], entries->keys, entries->count);
    return outcome == MADE ? make_texts(&of_entries->owned[1], entries->values, entries->count) : outcome;
}

static PyObject *attribute_maps(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "two lists of dictionaries and two functions are needed");
        return NULL;
    }
    if (!PyList_Check(args[0]) || !PyList_Check(args[1])) Py_RETURN_NONE;
    Py_ssize_t rows = PyList_GET_SIZE(args[0]);
    size_t most = 0;
    if (PyList_GET_SIZE(args[1]) != rows) Py_RETURN_NONE;
    for (Py_ssize_t i = 0; i < rows; i++) {
        PyObject *own = PyList_GET_ITEM(args[0], i), *given = PyList_GET_ITEM(args[1], i);
        if (!PyDict_Check(own) || !PyDict_Check(given)) Py_RETURN_NONE;
        most += PyDict_GET_SIZE(own) + PyDict_GET_SIZE(given);
    }
    if (most > INT32_MAX) Py_RETURN_NONE;
    Entries entries = {calloc(most + 1, sizeof(Piece)), calloc(most + 1, sizeof(Piece)), 0, PyList_New(0)};
    int32_t *offsets = malloc((rows + 1) * sizeof(int32_t));
    struct ArrowArray *array = calloc(1, sizeof(struct ArrowArray));
    int made = entries.keys && entries.values && entries.kept && offsets && array, outcome = made ? MADE : no_memory();
    for (Py_ssize_t i = 0; i < rows && outcome == MADE; i++) {
        offsets[i] = (int32_t)entries.count;
        outcome = add(&entries, PyList_GET_ITEM(args[0], i), args[2], 1);
        if (outcome == MADE) outcome = add(&entries, PyList_GET_ITEM(args[1], i), args[3], 0);
    }
    if (outcome == MADE) {
        offsets[rows] = (int32_t)entries.count;
        outcome = make_maps(array, &entries, offsets, rows);
    } else {
        free(offsets);
    }
    free(entries.keys);
    free(entries.values);
    Py_XDECREF(entries.kept);
    return array == NULL ? NULL : handed_over(array, outcome);
}

static PyMethodDef methods[] = {
    {"build", (PyCFunction)(void (*)(void))build, METH_FASTCALL, NULL},
    {"batch", (PyCFunction)(void (*)(void))batch, METH_FASTCALL, NULL},
    {"attribute_maps", (PyCFunction)(void (*)(void))attribute_maps, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_native", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddStringConstant(module, "SOURCE", SOURCE_DIGEST) < 0) Py_CLEAR(module);
    return module;
}
