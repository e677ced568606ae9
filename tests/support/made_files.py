"""Copies of GGUF files with other keys and tensors, written by the gguf package."""

import gguf


def remade(source, path, keys=None, tensors=None, raw=()):
    """keys: {key: value, None: left out}, new ones (numbers, texts, lists) too; tensors: {name:
    (values, type), None: left out}, new ones too; raw: (name, array) as they are."""
    reader, keys, tensors = gguf.GGUFReader(source), dict(keys or {}), dict(tensors or {})
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = keys.pop(name, field.contents())
        if isinstance(value, list) and field.types[0] != gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        elif value is not None:
            writer.add_key_value(
                name, value, field.types[0], field.types[-1] if len(field.types) > 1 else None
            )
    for name, value in keys.items():
        if value is not None:
            add = {list: writer.add_array, str: writer.add_string}.get(type(value))
            (add or writer.add_uint32)(name, value)
    for tensor in reader.tensors:
        if tensor.name not in tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, given in tensors.items():
        if given is not None:
            values, kind = given
            kind = gguf.GGMLQuantizationType[kind]
            whole = kind.name in ("I32", "I8")
            writer.add_tensor(
                name, values if whole else gguf.quants.quantize(values, kind), raw_dtype=kind
            )
    for name, values in raw:
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
