"""Our meshes as the host's, where it has a type for them."""

from ...stylegan.shapes import Mesh


def host_mesh(mesh: Mesh):
    """Return the host's MESH of one mesh; None on hosts that have none, or one without colours."""
    try:
        from comfy_api.latest import Types

        return Types.MESH(mesh.vertices[None], mesh.faces[None], vertex_colors=mesh.colours[None])
    except (ImportError, AttributeError, TypeError):
        return None
